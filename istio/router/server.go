package router

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
)

// Server is a server of a Gateway, as the pods that the Gateway selects have it.
type Server struct {
	// Gateway is namespace/name.
	Gateway string
	Port    int64
	// Bind is the address that it listens on; empty means all.
	Bind string
	// Routes is the name of its route configuration; empty if it forwards connections,
	// which it does not divide into requests.
	Routes string
	// TLS reports whether it has TLS settings.
	TLS bool
	// Ignored reports whether istiod ignores it because of a server of an older Gateway,
	// or of an earlier one of the same Gateway.
	Ignored bool

	hosts    []string
	protocol protocol
}

// protocol is the protocol of a server's port
// (istio.io/istio/pkg/config/protocol, Parse).
type protocol string

func protocolOf(port map[string]any) protocol {
	return protocol(strings.ToUpper(fields.String(port, "protocol")))
}

// isHTTP reports whether the port has requests without TLS.
func (p protocol) isHTTP() bool { return config.Port{Declared: string(p)}.Protocol() == config.HTTP }

// HasRequests reports whether the server divides connections into requests.
func (s Server) HasRequests() bool { return s.Routes != "" }

// Takes returns those hosts of the server that a VirtualService of a namespace can have
// routes for (istio.io/istio/pkg/config/host, NamesForNamespace).
func (s Server) Takes(namespace string) []string {
	var names []string
	for _, h := range s.hosts {
		if of, name, found := strings.Cut(h, "/"); found {
			if of != namespace && of != "*" {
				continue
			}
			h = name
		}
		names = append(names, h)
	}
	return names
}

// Servers returns the servers of Gateways that select the same pods, in the order of the
// Gateways (istio.io/istio/pilot/pkg/model, mergeGateways). The port is the Gateway's; the
// port of the pods, which the Service decides, has no effect on routes.
func Servers(gateways []*unstructured.Unstructured) []Server {
	var all []Server
	for _, gateway := range gateways {
		for _, spec := range fields.Maps(fields.Map(gateway.Object, "spec"), "servers") {
			port := fields.Map(spec, "port")
			if port == nil {
				continue
			}
			server := newServer(gateway, spec, port)
			server.Ignored = isIgnored(server, all)
			all = append(all, server)
		}
	}
	return all
}

func newServer(gateway *unstructured.Unstructured, spec, port map[string]any) Server {
	number, _ := fields.Int(port["number"])
	tls := fields.Map(spec, "tls")
	server := Server{
		Gateway: gateway.GetNamespace() + "/" + gateway.GetName(), Port: number, Bind: fields.String(spec, "bind"), TLS: tls != nil,
		protocol: protocolOf(port), hosts: sanitized(fields.Strings(spec, "hosts"), gateway.GetNamespace()),
	}
	bind := ""
	if server.Bind != "" {
		bind = "." + server.Bind
	}
	// istio.io/istio/pilot/pkg/model, gatewayRDSRouteName.
	mode := fields.String(tls, "mode")
	passes := tls != nil && (mode == "PASSTHROUGH" || mode == "AUTO_PASSTHROUGH")
	switch {
	case server.protocol.isHTTP():
		server.Routes = fmt.Sprintf("http.%d%s", number, bind)
	case server.protocol == "HTTPS" && !passes:
		server.Routes = fmt.Sprintf("https.%d.%s.%s.%s%s", number, fields.String(port, "name"), gateway.GetName(), gateway.GetNamespace(), bind)
	}
	return server
}

// sanitized replaces the namespaces "." and "*" of a server's hosts
// (istio.io/istio/pilot/pkg/model, sanitizeServerHostNamespace).
func sanitized(hosts []string, namespace string) []string {
	for i, h := range hosts {
		of, name, found := strings.Cut(h, "/")
		switch {
		case !found:
		case of == ".":
			hosts[i] = namespace + "/" + name
		case of == "*" && name == "*":
			return []string{"*"}
		case of == "*":
			hosts[i] = name
		}
	}
	return hosts
}

// isIgnored reports whether istiod ignores a server because of earlier ones on its port:
// one with TLS settings and a host that an earlier one with the same address has too,
// one whose protocol a listener without TLS does not have, and an HTTPS server whose
// port has the name of an earlier one.
func isIgnored(server Server, earlier []Server) bool {
	here := slices.DeleteFunc(slices.Clone(earlier), func(s Server) bool { return s.Port != server.Port || s.Ignored })
	if server.TLS && slices.ContainsFunc(here, func(s Server) bool { return s.TLS && s.Bind == server.Bind && sharesHost(s, server) }) {
		return true
	}
	plain := slices.IndexFunc(here, func(s Server) bool { return !s.TLS || s.protocol.isHTTP() })
	switch {
	case len(here) == 0:
		return false
	case plain >= 0:
		first := here[plain]
		return first.Bind == server.Bind && (!first.protocol.isHTTP() || !server.protocol.isHTTP())
	default:
		return server.Routes != "" && slices.ContainsFunc(here, func(s Server) bool { return s.Routes == server.Routes })
	}
}

// sharesHost reports whether two servers have a host in common, as text
// (istio.io/istio/pilot/pkg/model, CheckDuplicates).
func sharesHost(a, b Server) bool {
	return slices.ContainsFunc(a.hosts, func(h string) bool { return slices.Contains(b.hosts, h) })
}
