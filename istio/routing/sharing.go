package routing

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
)

// Sharers returns the other hosts whose connections to a TCP port of a host proxies
// cannot tell from the host's. ServiceEntries without addresses share one listener
// for each port, which has one filter chain for TCP: the first host's. A chain with the
// same match is dropped (istio.io/istio/pilot/pkg/networking/core,
// buildSidecarOutboundTCPFilterChainOpts and mergeTCPFilterChains).
func Sharers(s config.Snapshot, name string, port config.Port, namespace string, l config.Listener) []string {
	on := s.Unaddressed(port.Number, namespace, l)
	if !port.HasTCPRoutes() || !slices.ContainsFunc(on, func(u config.Unaddressed) bool { return strings.EqualFold(u.Host, name) }) {
		return nil
	}
	var others []string
	for _, u := range on {
		if u.Port.HasTCPRoutes() && !strings.EqualFold(u.Host, name) && !slices.Contains(others, u.Host) {
			others = append(others, u.Host)
		}
	}
	slices.Sort(others)
	return others
}

// Taken is a filter chain for the server name of a host that another host brings.
type Taken struct {
	By *unstructured.Unstructured
	// Host is the host of the VirtualService that brings it.
	Host string
}

// TakenServerName returns the VirtualService whose tls routes a proxy uses for
// connections to a TLS port with the server name of a host, although it uses it for
// another host: of each host on the shared listener istiod adds all tls routes, also
// those for other server names, and drops later chains for the same name
// (istio.io/istio/pilot/pkg/networking/core, buildSidecarOutboundTLSFilterChainOpts and
// mergeTCPFilterChains). If it is not known which host is first, it is not the given
// one. ok is false if there is no such VirtualService.
func TakenServerName(s config.Snapshot, name string, port config.Port, namespace string, l config.Listener) (taken Taken, ok bool) {
	on := s.Unaddressed(port.Number, namespace, l)
	own := slices.IndexFunc(on, func(u config.Unaddressed) bool { return strings.EqualFold(u.Host, name) })
	if own < 0 || port.Protocol() != config.TLS {
		return Taken{}, false
	}
	for _, u := range on {
		if u.Port.Protocol() != config.TLS || strings.EqualFold(u.Host, name) || on[own].Before(u) {
			continue
		}
		for _, vs := range WithConnections(s, u.Host, namespace, l) {
			for _, route := range fields.Maps(fields.Map(vs.Object, "spec"), "tls") {
				if slices.ContainsFunc(fields.Maps(route, "match"), func(match map[string]any) bool { return takes(match, name, port.Number, namespace) }) {
					return Taken{By: vs, Host: u.Host}, true
				}
			}
		}
	}
	return Taken{}, false
}

// takes reports whether proxies of a namespace may use a tls match for a server name
// on a port.
func takes(match map[string]any, name string, port int64, namespace string) bool {
	gateways := fields.Strings(match, "gateways")
	from := fields.String(match, "sourceNamespace")
	number, _ := fields.Int(match["port"])
	return (len(gateways) == 0 || slices.Contains(gateways, MeshGateway)) && (from == "" || from == namespace) &&
		cmp.Or(number, port) == port &&
		slices.ContainsFunc(fields.Strings(match, "sniHosts"), func(sni string) bool { return strings.EqualFold(sni, name) })
}
