"""A gRPC client or server without protobuf: calls carry bytes.

    peer.py server HOST:PORT NAME VERSION          configured by the control plane (GRPC_XDS_BOOTSTRAP)
    peer.py tls-server HOST:PORT NAME FOLDER       mutual TLS with the certificates of FOLDER, no control plane
    peer.py plain-server HOST:PORT NAME VERSION    plain text: the program beside a sidecar
    peer.py client TARGET                          one JSON line in per batch of calls, one out
"""

import collections
import concurrent.futures
import json
import pathlib
import sys

import grpc
import grpc.experimental

METHOD = "/tulle.test.Payments/Pay"


def answer(name, version):
    def pay(request, context):
        metadata = dict(context.invocation_metadata())
        peer = context.auth_context().get("x509_subject_alternative_name", [])
        told = {
            "name": name,
            "version": version,
            "peer": [it.decode() for it in peer],
            "xfcc": metadata.get("x-forwarded-client-cert", ""),
            "length": len(request),
        }
        context.set_trailing_metadata((("x-answered-by", name),))
        return json.dumps(told).encode()

    return pay


def serve(kind, address, name, last):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), xds=kind == "server")
    handler = grpc.unary_unary_rpc_method_handler(answer(name, "" if kind == "tls-server" else last))
    service, method = METHOD.strip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    if kind == "plain-server":
        server.add_insecure_port(address)
    elif kind == "server":
        server.add_secure_port(address, grpc.xds_server_credentials(grpc.insecure_server_credentials()))
    else:
        key, chain, roots = (
            (pathlib.Path(last) / file).read_bytes() for file in ("key.pem", "cert-chain.pem", "root-cert.pem")
        )
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)], roots, True))
    server.start()
    print("started", flush=True)
    server.wait_for_termination()


def call(target):
    credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
    with grpc.secure_channel(target, credentials) as channel:
        pay = channel.unary_unary(METHOD)
        for line in sys.stdin:
            asked = json.loads(line)
            statuses, versions, names = (collections.Counter() for _ in range(3))
            last = {}
            for _ in range(asked["count"]):
                try:
                    reply, done = pay.with_call(
                        b"x" * asked.get("length", 1),
                        timeout=asked.get("timeout", 20),
                        metadata=list(asked.get("metadata", {}).items()),
                        wait_for_ready=asked.get("wait", False),
                    )
                    last = json.loads(reply)
                    last["trailers"] = dict(done.trailing_metadata())
                    versions[last["version"]] += 1
                    names[last["name"]] += 1
                    statuses["OK"] += 1
                except grpc.RpcError as error:
                    last = {"details": error.details()}
                    statuses[error.code().name] += 1
            told = {"statuses": statuses, "versions": versions, "names": names, "last": last}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "client":
        call(sys.argv[2])
    else:
        serve(*sys.argv[1:5])
