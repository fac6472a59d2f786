package routes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// Connection is where an Envoy sends connections other than HTTP: to one listener,
// with one of the server names and to one of the subnets if there are any.
type Connection struct {
	Listener    string
	ServerNames []string
	Subnets     []string
	// Clusters are the destinations with their weights; a single one has 1.
	Clusters map[string]uint32
}

// Connections returns the outbound connections of an Envoy, sorted by listener.
func Connections(ctx context.Context, w identity.Workload) ([]Connection, error) {
	var found []Connection
	err := converse(ctx, layout.IstiodXDS, w, "sidecar", func(stream stream, node *core.Node) error {
		answer, err := ask(stream, &discovery.DiscoveryRequest{Node: node, TypeUrl: listenerType})
		if err != nil {
			return err
		}
		for _, resource := range answer.GetResources() {
			l := &listener.Listener{}
			if err := resource.UnmarshalTo(l); err != nil {
				return fmt.Errorf("listener: %w", err)
			}
			own, err := connectionsOf(l)
			if err != nil {
				return err
			}
			found = append(found, own...)
		}
		return nil
	})
	slices.SortStableFunc(found, func(a, b Connection) int { return strings.Compare(a.Listener, b.Listener) })
	return found, err
}

func connectionsOf(l *listener.Listener) ([]Connection, error) {
	var found []Connection
	chains := l.GetFilterChains()
	if l.GetDefaultFilterChain() != nil {
		chains = append(chains, l.GetDefaultFilterChain())
	}
	for _, chain := range chains {
		for _, filter := range chain.GetFilters() {
			proxy := &tcpproxy.TcpProxy{}
			if !filter.GetTypedConfig().MessageIs(proxy) {
				continue
			}
			if err := filter.GetTypedConfig().UnmarshalTo(proxy); err != nil {
				return nil, fmt.Errorf("listener %s: %w", l.GetName(), err)
			}
			c := Connection{Listener: l.GetName(), ServerNames: chain.GetFilterChainMatch().GetServerNames(), Clusters: map[string]uint32{}}
			for _, subnet := range chain.GetFilterChainMatch().GetPrefixRanges() {
				c.Subnets = append(c.Subnets, fmt.Sprintf("%s/%d", subnet.GetAddressPrefix(), subnet.GetPrefixLen().GetValue()))
			}
			if proxy.GetCluster() != "" {
				c.Clusters[proxy.GetCluster()] = 1
			}
			for _, weighted := range proxy.GetWeightedClusters().GetClusters() {
				c.Clusters[weighted.GetName()] += weighted.GetWeight()
			}
			found = append(found, c)
		}
	}
	return found, nil
}
