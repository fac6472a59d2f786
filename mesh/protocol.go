package mesh

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Port is a port of a Service or a ServiceEntry.
type Port struct {
	Number int64
	Name   string
	// Protocol is the transport of a Service's port (TCP, UDP), and Istio's
	// protocol of a ServiceEntry's.
	Protocol string
	// AppProtocol is what a Service says that its port speaks, if it does.
	AppProtocol string
	// OfService tells the ports of Services from those of ServiceEntries.
	OfService bool
}

// speech is what istiod takes a port to speak, and so which routes it has.
type speech int

const (
	speaksHTTP speech = iota
	speaksTCP
	speaksTLS
	speaksUDP
	sniffed // the proxy finds out; the port has HTTP and TCP routes
)

// speaks reads a port as istiod does: appProtocol first, then the name up to
// its first dash (istio.io/istio/pkg/config/kube, ConvertProtocol).
func (p Port) speaks() speech {
	if !p.OfService {
		return protocolSpeech(p.Protocol)
	}
	if p.Protocol == "UDP" {
		return speaksUDP
	}
	name := p.Name
	if p.AppProtocol != "" {
		name = p.AppProtocol
	}
	switch {
	case name == "kubernetes.io/h2c", name == "kubernetes.io/ws", strings.HasPrefix(strings.ToLower(name), "grpc-web"):
		return speaksHTTP
	case name == "kubernetes.io/wss":
		return speaksTLS
	}
	prefix, _, _ := strings.Cut(name, "-")
	spoken := protocolSpeech(prefix)
	if spoken == sniffed && slices.Contains(wellKnownTCP, p.Number) {
		return speaksTCP
	}
	return spoken
}

// wellKnownTCP are the ports that istiod does not sniff, because there the
// server speaks first: SMTP, DNS, MySQL, MongoDB
// (istio.io/istio/pkg/config/kube, wellKnownPorts).
var wellKnownTCP = []int64{25, 53, 3306, 27017} //nolint:gochecknoglobals // a constant list

// protocolSpeech reads a protocol's name (istio.io/istio/pkg/config/protocol,
// Parse).
func protocolSpeech(name string) speech {
	switch strings.ToLower(name) {
	case "http", "http2", "http_proxy", "grpc", "grpc-web":
		return speaksHTTP
	case "https", "tls":
		return speaksTLS
	case "tcp", "mongo", "redis", "mysql":
		return speaksTCP
	case "udp":
		return speaksUDP
	default:
		return sniffed
	}
}

// portsOf gives the ports of a host that the proxies of a namespace can see, in
// the order of their numbers, those of Services first. Of a number that UDP and
// TCP share, the TCP port counts: Istio routes no other.
func (s Snapshot) portsOf(host, namespace string) []Port {
	var ports []Port
	for _, i := range s.standIns(host) {
		if !s.sees(i, namespace) {
			continue
		}
		for _, p := range i.ports {
			at := slices.IndexFunc(ports, func(have Port) bool { return have.Number == p.Number })
			switch {
			case at < 0:
				ports = append(ports, p)
			case ports[at].speaks() == speaksUDP:
				ports[at] = p
			}
		}
	}
	slices.SortStableFunc(ports, func(a, b Port) int { return int(a.Number - b.Number) })
	return ports
}

// entryPorts gives the ports of a ServiceEntry.
func entryPorts(entry *unstructured.Unstructured) []Port {
	var ports []Port
	for _, port := range mapsAt(mapAt(entry.Object, "spec"), "ports") {
		number, _ := asInt(port["number"])
		name, _ := port["name"].(string)
		protocol, _ := port["protocol"].(string)
		ports = append(ports, Port{Number: number, Name: name, Protocol: protocol})
	}
	return ports
}

// hasHTTPRoutes reports whether proxies may have http routes for the port.
func (p Port) hasHTTPRoutes() bool { return p.speaks() == speaksHTTP || p.speaks() == sniffed }

// hasTCPRoutes reports whether proxies may have tcp routes for the port.
func (p Port) hasTCPRoutes() bool { return p.speaks() == speaksTCP || p.speaks() == sniffed }
