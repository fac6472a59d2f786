package router

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
)

// Connecting returns a VirtualService by which the servers of a workload forward
// connections to a host without dividing them into requests, or nil: it has TCP or TLS
// routes, and is bound to a server for TCP or for TLS that is passed through
// (istio.io/istio/pilot/pkg/networking/core, createGatewayTCPFilterChainOpts).
func Connecting(s config.Snapshot, w Workload, servers []Server, name string) *unstructured.Unstructured {
	for _, server := range servers {
		if server.Ignored || server.HasRequests() {
			continue
		}
		for _, vs := range boundTo(s, w.Namespace, server.Gateway) {
			if len(Intersection(server.Takes(vs.GetNamespace()), vs.hosts)) > 0 && connects(vs.Unstructured, name, s.ClusterDomain) {
				return vs.Unstructured
			}
		}
	}
	return nil
}

// connects reports whether a TCP or TLS route of a VirtualService leads to a host.
func connects(vs *unstructured.Unstructured, name, domain string) bool {
	for _, protocol := range []string{"tcp", "tls"} {
		for _, route := range fields.Maps(fields.Map(vs.Object, "spec"), protocol) {
			for _, weighted := range fields.Maps(route, "route") {
				to := fields.String(fields.Map(weighted, "destination"), "host")
				if strings.EqualFold(host.Qualify(to, vs.GetNamespace(), domain), name) {
					return true
				}
			}
		}
	}
	return false
}
