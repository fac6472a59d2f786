package telemetry

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
)

// AccessLogFormat returns the fields of a line of the access log and Envoy's
// command operators for them.
func AccessLogFormat() map[string]string {
	return map[string]string{
		"code":              "%RESPONSE_CODE%",
		"flags":             "%RESPONSE_FLAGS%",
		"details":           "%RESPONSE_CODE_DETAILS%",
		"cluster":           "%UPSTREAM_CLUSTER%",
		"upstream":          "%UPSTREAM_HOST%",
		"downstream":        "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
		"downstream_peer":   "%DOWNSTREAM_PEER_URI_SAN%",
		"downstream_local":  "%DOWNSTREAM_LOCAL_URI_SAN%",
		"upstream_peer":     "%UPSTREAM_PEER_URI_SAN%",
		"upstream_local":    "%UPSTREAM_LOCAL_URI_SAN%",
		"duration_us":       "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
		"duration_ms":       "%DURATION%",
		"protocol":          "%PROTOCOL%",
		"authority":         "%REQ(:AUTHORITY)%",
		"content_type":      "%REQ(CONTENT-TYPE)%",
		"grpc_status":       "%GRPC_STATUS_NUMBER%",
		"bytes_received":    "%BYTES_RECEIVED%",
		"bytes_sent":        "%BYTES_SENT%",
		"route":             "%ROUTE_NAME%",
		"method":            "%REQ(:METHOD)%",
		"path":              "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
		"upstream_attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
		"start":             "%START_TIME%",
	}
}

// entry is one line of the access log. A field that does not apply is null.
type entry struct {
	Code            int     `json:"code"`
	Flags           string  `json:"flags"`
	Cluster         string  `json:"cluster"`
	Upstream        string  `json:"upstream"`
	Downstream      string  `json:"downstream"`
	DownstreamPeer  string  `json:"downstream_peer"`
	DownstreamLocal string  `json:"downstream_local"`
	UpstreamPeer    string  `json:"upstream_peer"`
	UpstreamLocal   string  `json:"upstream_local"`
	DurationUS      *int64  `json:"duration_us"`
	DurationMS      int64   `json:"duration_ms"`
	Protocol        string  `json:"protocol"`
	Authority       string  `json:"authority"`
	ContentType     string  `json:"content_type"`
	GRPCStatus      *int    `json:"grpc_status"`
	BytesReceived   float64 `json:"bytes_received"`
	BytesSent       float64 `json:"bytes_sent"`
}

// Directory knows the workloads and services of the cluster.
type Directory interface {
	// WorkloadAt returns the workload of the pod with an address.
	WorkloadAt(address netip.Addr) (identity.Workload, bool)
	// HostOf returns the host of the Service that a port of a pod belongs to;
	// empty if there is none.
	HostOf(address netip.Addr, port string) string
	// NamespaceOf returns the namespace of the ServiceEntry of a host; empty if
	// there is none.
	NamespaceOf(host string) string
}

// tcpMetrics are Istio's metrics of TCP connections. Envoy logs a connection
// when it ends, so opened and closed connections are counted at the same time.
type tcpMetrics struct{ opened, closed, sent, received *prometheus.CounterVec }

// NewSidecar returns the metrics of a workload with a sidecar.
func NewSidecar(self identity.Workload) *Reporter {
	r := New(self)
	var names []string
	for _, name := range labelNames {
		if name != "response_code" && name != "grpc_response_status" {
			names = append(names, name)
		}
	}
	for name, counter := range map[string]**prometheus.CounterVec{
		"istio_tcp_connections_opened_total": &r.tcp.opened,
		"istio_tcp_connections_closed_total": &r.tcp.closed,
		"istio_tcp_sent_bytes_total":         &r.tcp.sent,
		"istio_tcp_received_bytes_total":     &r.tcp.received,
	} {
		*counter = prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: "TCP connections, by both ends and result."}, names)
		r.registry.MustRegister(*counter)
	}
	return r
}

// ReadAccessLog counts what the access log of the workload's Envoy says until
// the log ends.
func (r *Reporter) ReadAccessLog(log io.Reader, directory Directory) error {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("access log of %s/%s: %w: %s", r.self.Namespace, r.self.Name, err, lines.Text())
		}
		r.count(e, directory)
	}
	return lines.Err()
}

func (r *Reporter) count(e entry, directory Directory) {
	c := r.callOf(e, directory)
	if e.Protocol != "" {
		r.report(c)
		return
	}
	c.protocol = "tcp"
	labels := c.labels()
	r.tcp.opened.With(labels).Inc()
	r.tcp.closed.With(labels).Inc()
	r.tcp.sent.With(labels).Add(e.BytesSent)
	r.tcp.received.With(labels).Add(e.BytesReceived)
}

func (r *Reporter) callOf(e entry, directory Directory) call {
	c := call{source: unknown, destination: unknown, protocol: "http", httpCode: e.Code, flags: e.Flags, took: time.Duration(e.DurationMS) * time.Millisecond}
	if c.flags == "" {
		c.flags = "-"
	}
	if e.DurationUS != nil {
		c.took = time.Duration(*e.DurationUS) * time.Microsecond
	}
	// Istio's statistics filter has not seen a request that the fault filter
	// answers, so it does not report it as gRPC.
	if strings.HasPrefix(e.ContentType, "application/grpc") && !strings.Contains(c.flags, "FI") {
		c.protocol = "grpc"
		if e.GRPCStatus != nil {
			c.grpcStatus = strconv.Itoa(*e.GRPCStatus)
		}
	}
	cluster := parseCluster(e.Cluster)
	if r.isInbound(e, cluster) {
		c.reporter, c.destination = "destination", peerOf(r.self)
		c.source = peerAt(e.Downstream, directory)
		c.principals = [2]string{principal(e.DownstreamPeer), principal(e.DownstreamLocal)}
		c.security = "none"
		if e.DownstreamPeer != "" {
			c.security = "mutual_tls"
		}
		if own, err := netip.ParseAddr(r.self.IP); err == nil {
			cluster.host = directory.HostOf(own, cluster.port)
		}
	} else {
		c.reporter, c.source = "source", peerOf(r.self)
		c.destination = peerAt(e.Upstream, directory)
		c.principals = [2]string{principal(e.UpstreamLocal), principal(e.UpstreamPeer)}
	}
	c.service = serviceIn(cluster, e, directory)
	return c
}

// isInbound reports whether the line is of a call to the workload itself.
func (r *Reporter) isInbound(e entry, cluster clusterName) bool {
	if cluster.direction != "" {
		return cluster.direction == "inbound"
	}
	return strings.HasPrefix(e.Cluster, "Inbound") || e.Downstream != r.self.IP && r.self.Labels["istio"] == "" && e.Cluster == ""
}

// clusterName is the name of a cluster of istiod: direction|port|subset|host.
type clusterName struct{ direction, port, host string }

func parseCluster(name string) clusterName {
	parts := strings.Split(strings.TrimSuffix(name, ";"), "|")
	if len(parts) != 4 {
		return clusterName{}
	}
	return clusterName{direction: parts[0], port: parts[1], host: parts[3]}
}

// serviceIn returns the service as Istio's statistics filter reports it
// (istio.io/proxy, source/extensions/filters/http/istio_stats): the host of the
// cluster, or without one the host that was asked for.
func serviceIn(cluster clusterName, e entry, directory Directory) service {
	host := cluster.host
	if host == "" {
		host, _, _ = strings.Cut(e.Authority, ":")
		name := e.Cluster
		if name == "" || cluster.direction != "" {
			name = "unknown"
		}
		if host == "" {
			host = "unknown"
		}
		return service{host: host, name: name, namespace: "unknown"}
	}
	if strings.HasSuffix(host, ".svc.cluster.local") {
		return serviceOf(host)
	}
	namespace := directory.NamespaceOf(host)
	if namespace == "" {
		namespace = "unknown"
	}
	return service{host: host, name: host, namespace: namespace}
}

func peerAt(address string, directory Directory) peer {
	ip, err := netip.ParseAddr(address)
	if at, portErr := netip.ParseAddrPort(address); portErr == nil {
		ip, err = at.Addr(), nil
	}
	if err != nil {
		return unknown
	}
	w, ok := directory.WorkloadAt(ip)
	if !ok {
		return unknown
	}
	return peerOf(w)
}

// principal returns the identity of a certificate without its scheme, as Istio
// reports it.
func principal(san string) string { return strings.TrimPrefix(san, "spiffe://") }
