package config

import (
	"cmp"
	"slices"
	"strings"
)

// Port is a port of a Service or a ServiceEntry.
type Port struct {
	Number int64
	Name   string
	// Declared is the transport protocol of a Service's port (TCP, UDP), and the
	// protocol of a ServiceEntry's port as Istio names it.
	Declared string
	// AppProtocol is the application protocol that a Service declares; empty if it
	// declares none.
	AppProtocol string
	// OfService is true for ports of Services, and false for ports of ServiceEntries.
	OfService bool
}

// Protocol is the protocol that istiod assumes for a port, which decides the kind
// of its routes.
type Protocol int

// The protocols.
const (
	HTTP Protocol = iota
	TCP
	TLS
	UDP
	Detected // the proxy detects it; the port has HTTP and TCP routes
)

// Protocol reads a port as istiod does: appProtocol first, then the name up to its
// first dash (istio.io/istio/pkg/config/kube, ConvertProtocol).
func (p Port) Protocol() Protocol {
	if !p.OfService {
		return parseProtocol(p.Declared)
	}
	if p.Declared == "UDP" {
		return UDP
	}
	name := p.Name
	if p.AppProtocol != "" {
		name = p.AppProtocol
	}
	switch {
	case name == "kubernetes.io/h2c", name == "kubernetes.io/ws", strings.HasPrefix(strings.ToLower(name), "grpc-web"):
		return HTTP
	case name == "kubernetes.io/wss":
		return TLS
	}
	prefix, _, _ := strings.Cut(name, "-")
	protocol := parseProtocol(prefix)
	if protocol == Detected && slices.Contains(wellKnownTCP, p.Number) {
		return TCP
	}
	return protocol
}

// wellKnownTCP are the ports whose protocol istiod does not let proxies detect,
// because the server sends first: SMTP, DNS, MySQL, MongoDB
// (istio.io/istio/pkg/config/kube, wellKnownPorts).
var wellKnownTCP = []int64{25, 53, 3306, 27017} //nolint:gochecknoglobals // a constant list

// parseProtocol reads the name of a protocol (istio.io/istio/pkg/config/protocol,
// Parse).
func parseProtocol(name string) Protocol {
	switch strings.ToLower(name) {
	case "http", "http2", "http_proxy", "grpc", "grpc-web":
		return HTTP
	case "https", "tls":
		return TLS
	case "tcp", "mongo", "redis", "mysql":
		return TCP
	case "udp":
		return UDP
	default:
		return Detected
	}
}

// IsHTTP1 reports whether the port is declared to have HTTP/1.1, and so no gRPC.
func (p Port) IsHTTP1() bool {
	name := p.Declared
	if p.OfService {
		name = cmp.Or(p.AppProtocol, p.Name)
		name, _, _ = strings.Cut(name, "-")
	}
	switch strings.ToLower(name) {
	case "http", "http_proxy":
		return true
	default:
		return false
	}
}

// HasHTTPRoutes reports whether proxies may have HTTP routes for the port.
func (p Port) HasHTTPRoutes() bool { return p.Protocol() == HTTP || p.Protocol() == Detected }

// HasTCPRoutes reports whether proxies may have TCP routes for the port.
func (p Port) HasTCPRoutes() bool { return p.Protocol() == TCP || p.Protocol() == Detected }
