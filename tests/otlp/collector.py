"""Receives spans and records of logs and prints each as a line of JSON. Decodes with the messages that OpenTelemetry publishes.

Usage: collector.py GRPC_PORT HTTP_PORT
"""

import json
import os
import sys
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_service
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.proto.trace.v1 import trace_pb2 as trace

KINDS = {trace.Span.SPAN_KIND_SERVER: "SERVER", trace.Span.SPAN_KIND_CLIENT: "CLIENT"}


def say(what):
    """A line in one piece: several threads write, and whoever reads the file may look at any moment."""
    line = (json.dumps(what) + "\n").encode()
    assert os.write(1, line) == len(line)


def texts(attributes):
    """All values are text, and no name comes twice."""
    assert all(it.value.WhichOneof("value") == "string_value" for it in attributes), attributes
    found = {it.key: it.value.string_value for it in attributes}
    assert len(found) == len(attributes), attributes
    return found


def otlp(protocol, request, headers):
    for of_resource in request.resource_spans:
        resource = texts(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                assert len(span.trace_id) == 16 and len(span.span_id) == 8, span
                assert len(span.parent_span_id) in (0, 8), span
                assert span.end_time_unix_nano >= span.start_time_unix_nano, span
                say({
                    "protocol": protocol,
                    "headers": headers,
                    "service": resource.get("service.name", ""),
                    "resource": resource,
                    "scope": of_scope.scope.name,
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": KINDS[span.kind],
                    "error": span.status.code == trace.Status.STATUS_CODE_ERROR,
                    "start": span.start_time_unix_nano // 1000,
                    "end": span.end_time_unix_nano // 1000,
                    "tags": texts(span.attributes),
                    "events": [[it.name, texts(it.attributes)] for it in span.events],
                })


def plain(value):
    """Texts, lists and fields."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(it) for it in value.array_value.values]
    if kind == "kvlist_value":
        return {it.key: plain(it.value) for it in value.kvlist_value.values}
    assert kind == "string_value", value
    return value.string_value


def logs(request, headers):
    for of_resource in request.resource_logs:
        resource = {it.key: plain(it.value) for it in of_resource.resource.attributes}
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                say({
                    "headers": headers,
                    "resource": resource,
                    "body": plain(record.body),
                    "attributes": {it.key: plain(it.value) for it in record.attributes},
                    "time": record.time_unix_nano // 1000,
                })


def zipkin(body, headers):
    for span in json.loads(body):
        assert len(span["traceId"]) in (16, 32) and len(span["id"]) == 16, span
        say({
            "protocol": "zipkin",
            "headers": headers,
            "service": span["localEndpoint"]["serviceName"],
            "trace": span["traceId"],
            "id": span["id"],
            "parent": span.get("parentId", ""),
            "name": span["name"],
            "kind": span["kind"],
            "error": span["tags"].get("error") == "true",
            "start": span["timestamp"],
            "end": span["timestamp"] + span["duration"],
            "tags": span["tags"],
            "events": [[it["value"], {}] for it in span["annotations"]],
        })


class Service(service_grpc.TraceServiceServicer):
    def Export(self, request, context):
        otlp("grpc", request, dict(context.invocation_metadata()))
        return service.ExportTraceServiceResponse()


class Logs(logs_grpc.LogsServiceServicer):
    def Export(self, request, context):
        logs(request, dict(context.invocation_metadata()))
        return logs_service.ExportLogsServiceResponse()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers["content-length"]))
        whole = b""
        while True:
            size = int(self.rfile.readline(), 16)
            whole += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return whole

    def do_POST(self):
        body = self.body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        headers[":path"] = self.path
        if headers["content-type"] == "application/x-protobuf":
            request = service.ExportTraceServiceRequest()
            request.ParseFromString(body)
            otlp("http", request, headers)
        else:
            zipkin(body, headers)
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    grpc_port, http_port = sys.argv[1:]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    service_grpc.add_TraceServiceServicer_to_server(Service(), server)
    logs_grpc.add_LogsServiceServicer_to_server(Logs(), server)
    server.add_insecure_port("127.0.0.1:" + grpc_port)
    server.start()
    web = ThreadingHTTPServer(("127.0.0.1", int(http_port)), Handler)
    say({"ready": True})
    web.serve_forever()


main()
