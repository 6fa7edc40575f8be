// A control plane that is not Tulle's, on Envoy's Go library: tulle-proxy must obey it as Envoy would.
//
// It serves ADS (state of the world and delta) on the address that is its only argument. Commands come by standard
// input, one per line; events go to standard output, one JSON object per line:
//
//	set VERSION FILE   serve the resources of FILE: {"clusters": [], "endpoints": [], "listeners": [], "routes": []}
//	drop               break every connection, and listen again on the same address
//
// It ends with its standard input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// everyone is the one snapshot's key: all proxies get the same.
type everyone struct{}

func (everyone) ID(*core.Node) string { return "everyone" }

// event is one line of output.
type event struct {
	Event     string            `json:"event"`
	Dialect   string            `json:"dialect,omitempty"`
	Type      string            `json:"type,omitempty"`
	Node      string            `json:"node,omitempty"`
	Version   string            `json:"version,omitempty"`
	Nonce     string            `json:"nonce,omitempty"`
	Names     []string          `json:"names,omitempty"`
	Removed   []string          `json:"removed,omitempty"`
	Known     map[string]string `json:"known,omitempty"`
	Error     string            `json:"error,omitempty"`
	Resources int               `json:"resources,omitempty"`
}

type output struct {
	lock sync.Mutex
	json *json.Encoder
}

func (o *output) tell(e event) {
	o.lock.Lock()
	defer o.lock.Unlock()
	if parts := strings.Split(e.Type, "."); len(parts) > 1 {
		e.Type = parts[len(parts)-1]
	}
	if o.json.Encode(e) != nil {
		os.Exit(0) // Nobody listens any more.
	}
}

func refusal(detail *status.Status) string { return detail.GetMessage() }

// callbacks tells what both sides say.
func callbacks(out *output) server.Callbacks {
	const whole, delta = "state of the world", "delta"
	return server.CallbackFuncs{
		StreamOpenFunc: func(context.Context, int64, string) error {
			out.tell(event{Event: "open", Dialect: whole})
			return nil
		},
		DeltaStreamOpenFunc: func(context.Context, int64, string) error {
			out.tell(event{Event: "open", Dialect: delta})
			return nil
		},
		StreamRequestFunc: func(_ int64, r *discovery.DiscoveryRequest) error {
			out.tell(event{Event: "request", Dialect: whole, Type: r.TypeUrl, Node: r.GetNode().GetId(), Version: r.VersionInfo,
				Nonce: r.ResponseNonce, Names: r.ResourceNames, Error: refusal(r.ErrorDetail)})
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discovery.DeltaDiscoveryRequest) error {
			out.tell(event{Event: "request", Dialect: delta, Type: r.TypeUrl, Node: r.GetNode().GetId(), Nonce: r.ResponseNonce,
				Names: r.ResourceNamesSubscribe, Removed: r.ResourceNamesUnsubscribe, Known: r.InitialResourceVersions,
				Error: refusal(r.ErrorDetail)})
			return nil
		},
		StreamResponseFunc: func(_ context.Context, _ int64, _ *discovery.DiscoveryRequest, r *discovery.DiscoveryResponse) {
			out.tell(event{Event: "response", Dialect: whole, Type: r.TypeUrl, Version: r.VersionInfo, Nonce: r.Nonce,
				Resources: len(r.Resources)})
		},
		StreamDeltaResponseFunc: func(_ int64, _ *discovery.DeltaDiscoveryRequest, r *discovery.DeltaDiscoveryResponse) {
			names := make([]string, 0, len(r.Resources))
			for _, sent := range r.Resources {
				names = append(names, sent.Name)
			}
			out.tell(event{Event: "response", Dialect: delta, Type: r.TypeUrl, Version: r.SystemVersionInfo, Nonce: r.Nonce,
				Names: names, Removed: r.RemovedResources, Resources: len(r.Resources)})
		},
	}
}

// read makes a snapshot of the resources in a file.
func read(version, path string) (*cache.Snapshot, error) {
	bytes, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lists map[string][]json.RawMessage
	if err := json.Unmarshal(bytes, &lists); err != nil {
		return nil, err
	}
	kinds := map[string]struct {
		url   resource.Type
		empty proto.Message
	}{
		"clusters":  {resource.ClusterType, &cluster.Cluster{}},
		"endpoints": {resource.EndpointType, &endpoint.ClusterLoadAssignment{}},
		"listeners": {resource.ListenerType, &listener.Listener{}},
		"routes":    {resource.RouteType, &route.RouteConfiguration{}},
	}
	resources := map[resource.Type][]types.Resource{}
	for name, list := range lists {
		kind, known := kinds[name]
		if !known {
			return nil, fmt.Errorf("%s: no resources are called so", name)
		}
		for index, text := range list {
			message := proto.Clone(kind.empty)
			if err := protojson.Unmarshal(text, message); err != nil {
				return nil, fmt.Errorf("%s[%d]: %w", name, index, err)
			}
			resources[kind.url] = append(resources[kind.url], message)
		}
	}
	return cache.NewSnapshot(version, resources)
}

// serve listens; what it returns breaks all connections.
func serve(address string, ads server.Server) (func(), error) {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	transport := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(transport, ads)
	go func() { _ = transport.Serve(socket) }()
	return transport.Stop, nil
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: %s ADDRESS", os.Args[0])
	}
	ctx := context.Background()
	out := &output{json: json.NewEncoder(os.Stdout)}
	snapshots := cache.NewSnapshotCache(true, everyone{}, nil)
	ads := server.NewServer(ctx, snapshots, callbacks(out))
	stop, err := serve(os.Args[1], ads)
	if err != nil {
		return err
	}
	out.tell(event{Event: "serving"})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 3 && words[0] == "set":
			snapshot, err := read(words[1], words[2])
			if err != nil {
				return err
			}
			if err := snapshots.SetSnapshot(ctx, everyone{}.ID(nil), snapshot); err != nil {
				return err
			}
			out.tell(event{Event: "set", Version: words[1]})
		case len(words) == 1 && words[0] == "drop":
			stop()
			if stop, err = serve(os.Args[1], ads); err != nil {
				return err
			}
			out.tell(event{Event: "dropped"})
		default:
			return fmt.Errorf("unknown command %q", lines.Text())
		}
	}
	return lines.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
