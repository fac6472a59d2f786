// Package routes requests from istiod the route configuration that it would send
// to an Envoy of a given identity.
package routes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	// The types that istiod puts into Any fields must be known to be printed.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

const (
	listenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	routeType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// Timeout bounds one question.
const Timeout = 10 * time.Second

// Fetch returns the outbound route configurations of an Envoy, as a JSON list
// sorted by name. With a host, only the virtual hosts that serve it are left,
// and only the configurations that have one.
func Fetch(ctx context.Context, w identity.Workload, kind, host string) ([]byte, error) {
	return fetch(ctx, layout.IstiodXDS, w, kind, host)
}

func fetch(ctx context.Context, istiod string, w identity.Workload, kind, host string) ([]byte, error) {
	var configs []*route.RouteConfiguration
	err := converse(ctx, istiod, w, kind, func(stream stream, node *core.Node) error {
		listeners, err := ask(stream, &discovery.DiscoveryRequest{Node: node, TypeUrl: listenerType})
		if err != nil {
			return err
		}
		names, err := routeNames(listeners)
		if err != nil || len(names) == 0 {
			return err
		}
		answer, err := ask(stream, &discovery.DiscoveryRequest{Node: node, TypeUrl: routeType, ResourceNames: names})
		if err != nil {
			return err
		}
		configs, err = routeConfigs(answer)
		return err
	})
	if err != nil {
		return nil, err
	}
	return print(configs, host)
}

type stream = discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient

// converse asks istiod as an Envoy of an identity.
func converse(ctx context.Context, istiod string, w identity.Workload, kind string, questions func(stream, *core.Node) error) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	conn, err := grpc.NewClient(istiod, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
	if err != nil {
		return fmt.Errorf("dial istiod: %w", err)
	}
	defer conn.Close() //nolint:errcheck // the program ends
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("ask istiod: %w", err)
	}
	metadata, err := structpb.NewStruct(w.Metadata())
	if err != nil {
		return fmt.Errorf("node metadata: %w", err)
	}
	return questions(stream, &core.Node{Id: w.NodeID(kind), Metadata: metadata})
}

// ask sends a request and returns the answer of the same type.
func ask(stream stream, request *discovery.DiscoveryRequest) (*discovery.DiscoveryResponse, error) {
	if err := stream.Send(request); err != nil {
		return nil, fmt.Errorf("ask istiod: %w", err)
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("istiod's answer: %w", err)
		}
		if response.GetTypeUrl() == request.GetTypeUrl() {
			return response, nil
		}
	}
}

// routeNames returns the names of the route configurations that listeners refer
// to.
func routeNames(response *discovery.DiscoveryResponse) ([]string, error) {
	var names []string
	for _, resource := range response.GetResources() {
		l := &listener.Listener{}
		if err := resource.UnmarshalTo(l); err != nil {
			return nil, fmt.Errorf("listener: %w", err)
		}
		chains := l.GetFilterChains()
		if l.GetDefaultFilterChain() != nil {
			chains = append(chains, l.GetDefaultFilterChain())
		}
		for _, chain := range chains {
			for _, filter := range chain.GetFilters() {
				manager := &hcm.HttpConnectionManager{}
				if !filter.GetTypedConfig().MessageIs(manager) {
					continue
				}
				if err := filter.GetTypedConfig().UnmarshalTo(manager); err != nil {
					return nil, fmt.Errorf("listener %s: %w", l.GetName(), err)
				}
				if name := manager.GetRds().GetRouteConfigName(); name != "" && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	sort.Strings(names)
	return names, nil
}

func routeConfigs(response *discovery.DiscoveryResponse) ([]*route.RouteConfiguration, error) {
	var configs []*route.RouteConfiguration
	for _, resource := range response.GetResources() {
		config := &route.RouteConfiguration{}
		if err := resource.UnmarshalTo(config); err != nil {
			return nil, fmt.Errorf("route configuration: %w", err)
		}
		configs = append(configs, config)
	}
	slices.SortFunc(configs, func(a, b *route.RouteConfiguration) int { return strings.Compare(a.GetName(), b.GetName()) })
	return configs, nil
}

// print writes configurations as JSON with a stable layout: protojson varies
// its white space on purpose.
func print(configs []*route.RouteConfiguration, host string) ([]byte, error) {
	list := []json.RawMessage{}
	for _, config := range configs {
		if host != "" {
			config, _ = proto.Clone(config).(*route.RouteConfiguration)
			config.VirtualHosts = slices.DeleteFunc(config.GetVirtualHosts(), func(v *route.VirtualHost) bool { return !serves(v, host) })
			if len(config.GetVirtualHosts()) == 0 {
				continue
			}
		}
		encoded, err := protojson.Marshal(config)
		if err != nil {
			return nil, fmt.Errorf("route configuration %s: %w", config.GetName(), err)
		}
		list = append(list, encoded)
	}
	encoded, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("route configurations: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, encoded, "", "  "); err != nil {
		return nil, fmt.Errorf("route configurations: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// serves reports whether a virtual host has the host, with or without a port,
// among its domains.
func serves(v *route.VirtualHost, host string) bool {
	return slices.ContainsFunc(v.GetDomains(), func(domain string) bool {
		return domain == host || strings.HasPrefix(domain, host+":")
	})
}
