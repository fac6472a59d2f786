// Package telemetry computes Istio's standard metrics with Istio's labels, so
// that queries that were written for a real mesh work on the sandbox. Proxyless
// workloads measure their own calls; for sidecars, whose Envoy lacks Istio's
// statistics filter, the metrics are computed from Envoy's access log.
package telemetry

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
)

// FaultMessage is what grpc-go says when an xDS fault aborts a call
// (google.golang.org/grpc/internal/xds/httpfilter/fault).
const FaultMessage = "RPC terminated due to fault injection"

// delayed is the time between the start of a call and its stream from which
// on it counts as delayed by a fault. A ready connection needs microseconds;
// a busy machine may take some milliseconds.
const delayed = 100 * time.Millisecond

// peerHeader carries a workload's identity to the other side of a call, as
// x-envoy-peer-metadata does between sidecars.
const peerHeader = "x-sandbox-peer"

// labelNames are the labels of Istio's standard metrics.
var labelNames = []string{ //nolint:gochecknoglobals // a constant list
	"reporter", "source_workload", "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
	"source_canonical_service", "source_canonical_revision",
	"destination_workload", "destination_workload_namespace", "destination_principal", "destination_app", "destination_version", "destination_cluster",
	"destination_canonical_service", "destination_canonical_revision",
	"destination_service", "destination_service_name", "destination_service_namespace",
	"request_protocol", "response_code", "grpc_response_status", "response_flags", "connection_security_policy",
}

// Reporter counts the calls of one workload.
type Reporter struct {
	self     identity.Workload
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	tcp      tcpMetrics
	// Routed, if set, says where a call to a service was routed that no server
	// has answered: a sidecar reports the host of the cluster that it chose.
	Routed func(ctx context.Context, service string) string
}

// New makes the metrics of a workload.
func New(self identity.Workload) *Reporter {
	r := &Reporter{
		self:     self,
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "istio_requests_total", Help: "Requests, by both ends and result."}, labelNames),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "istio_request_duration_milliseconds",
			Help:    "How long requests took, by both ends and result.",
			Buckets: []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000},
		}, labelNames),
	}
	r.registry.MustRegister(r.requests, r.duration)
	return r
}

// Handler serves the metrics.
func (r *Reporter) Handler() http.Handler {
	return promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{Registry: r.registry})
}

// peer is the other end of a call, as far as it is known.
type peer struct{ workload, namespace, app, version string }

var unknown = peer{workload: "unknown", namespace: "unknown", app: "unknown", version: "unknown"} //nolint:gochecknoglobals // a constant

func peerOf(w identity.Workload) peer {
	return peer{workload: w.Name, namespace: w.Namespace, app: w.Labels["app"], version: w.Labels["version"]}
}

// service is a service as istiod describes it to a proxy.
type service struct{ host, name, namespace string }

// serviceOf returns the service of a host whose first two labels are its name
// and its namespace.
func serviceOf(host string) service {
	name, rest, _ := strings.Cut(host, ".")
	namespace, _, _ := strings.Cut(rest, ".")
	return service{host: host, name: name, namespace: namespace}
}

func (p peer) String() string {
	return strings.Join([]string{p.workload, p.namespace, p.app, p.version}, "/")
}

func parsePeer(values []string) peer {
	if len(values) == 0 {
		return unknown
	}
	parts := strings.Split(values[0], "/")
	if len(parts) != 4 {
		return unknown
	}
	return peer{workload: parts[0], namespace: parts[1], app: parts[2], version: parts[3]}
}

// call is one finished request or connection.
type call struct {
	reporter    string
	source      peer
	destination peer
	service     service
	principals  [2]string // of source and destination; empty if unknown
	security    string    // empty for the default of the reporter
	protocol    string
	httpCode    int
	grpcStatus  string
	flags       string
	took        time.Duration
}

// labels returns the labels that requests and connections have in common.
func (c call) labels() prometheus.Labels {
	security := c.security
	switch {
	case security != "":
	case c.reporter == "source":
		security = "unknown"
	default:
		security = "none"
	}
	principal := func(p string) string {
		if p == "" {
			return "unknown"
		}
		return p
	}
	return prometheus.Labels{
		"reporter":        c.reporter,
		"source_workload": c.source.workload, "source_workload_namespace": c.source.namespace, "source_principal": principal(c.principals[0]),
		"source_app": c.source.app, "source_version": c.source.version, "source_cluster": "Kubernetes",
		"source_canonical_service": c.source.app, "source_canonical_revision": c.source.version,
		"destination_workload": c.destination.workload, "destination_workload_namespace": c.destination.namespace, "destination_principal": principal(c.principals[1]),
		"destination_app": c.destination.app, "destination_version": c.destination.version, "destination_cluster": "Kubernetes",
		"destination_canonical_service": c.destination.app, "destination_canonical_revision": c.destination.version,
		"destination_service": c.service.host, "destination_service_name": c.service.name, "destination_service_namespace": c.service.namespace,
		"request_protocol": c.protocol, "response_flags": c.flags, "connection_security_policy": security,
	}
}

// report counts a request.
func (r *Reporter) report(c call) {
	labels := c.labels()
	labels["response_code"], labels["grpc_response_status"] = strconv.Itoa(c.httpCode), c.grpcStatus
	r.requests.With(labels).Inc()
	r.duration.With(labels).Observe(float64(c.took) / float64(time.Millisecond))
}

// DialOptions makes a gRPC client report its calls to one service, and send its
// identity to the server.
func (r *Reporter) DialOptions(service string) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithStatsHandler(DelayDetector{}),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			ctx = metadata.AppendToOutgoingContext(ctx, peerHeader, peerOf(r.self).String())
			ctx, timing := WithTiming(ctx)
			var header metadata.MD
			start := time.Now()
			err := invoke(ctx, method, request, reply, conn, append(options, grpc.Header(&header))...)
			c := call{
				reporter: "source", source: peerOf(r.self), destination: parsePeer(header.Get(peerHeader)), service: serviceOf(service),
				protocol: "grpc", httpCode: http.StatusOK, grpcStatus: strconv.Itoa(int(status.Code(err))),
				flags: timing.Flags(err), took: time.Since(start),
			}
			if c.flags == "-" && len(header) == 0 {
				c.flags = unanswered(err)
				if c.flags != "-" && r.Routed != nil {
					c.service = serviceOf(r.Routed(ctx, service))
				}
			}
			if strings.Contains(c.flags, "FI") {
				// A sidecar's fault filter answers before the statistics filter
				// has seen the request, so it does not know that it was gRPC.
				c.protocol, c.grpcStatus = "http", ""
			}
			r.report(c)
			return err
		}),
	}
}

// ServerOptions makes a gRPC server report the calls that it answers, and
// send its identity to the client.
func (r *Reporter) ServerOptions(service string) []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		start := time.Now()
		if err := grpc.SetHeader(ctx, metadata.Pairs(peerHeader, peerOf(r.self).String())); err != nil {
			return nil, err
		}
		reply, err := handle(ctx, request)
		incoming, _ := metadata.FromIncomingContext(ctx)
		r.report(call{
			reporter: "destination", source: parsePeer(incoming.Get(peerHeader)), destination: peerOf(r.self), service: serviceOf(service),
			protocol: "grpc", httpCode: http.StatusOK, grpcStatus: strconv.Itoa(int(status.Code(err))), flags: "-", took: time.Since(start),
		})
		return reply, err
	})}
}

// Server makes an HTTP server report the requests that it answers.
func (r *Reporter) Server(service string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		start := time.Now()
		w.Header().Set(peerHeader, peerOf(r.self).String())
		recorder := &statusRecorder{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(recorder, request)
		r.report(call{
			reporter: "destination", source: parsePeer(request.Header.Values(peerHeader)), destination: peerOf(r.self), service: serviceOf(service),
			protocol: "http", httpCode: recorder.code, flags: "-", took: time.Since(start),
		})
	})
}

// Transport makes an HTTP client report its requests to one service. A
// request that gets no response counts as 503 with the flag UF, or as 0 with
// DC when the caller gave up.
func (r *Reporter) Transport(service string, next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		request = request.Clone(request.Context())
		request.Header.Set(peerHeader, peerOf(r.self).String())
		start := time.Now()
		response, err := next.RoundTrip(request)
		c := call{reporter: "source", source: peerOf(r.self), destination: unknown, service: serviceOf(service), protocol: "http", flags: "-"}
		switch {
		case err == nil:
			c.httpCode, c.destination = response.StatusCode, parsePeer(response.Header.Values(peerHeader))
		case request.Context().Err() != nil:
			c.flags = "DC"
		default:
			c.httpCode, c.flags = http.StatusServiceUnavailable, "UF"
		}
		c.took = time.Since(start)
		r.report(c)
		return response, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

type statusRecorder struct {
	http.ResponseWriter
	code int
}

func (w *statusRecorder) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Timing is when a call began and when grpc-go began its stream. An xDS fault
// delays a call in between; picking and connecting come later.
type Timing struct{ begin, stream time.Time }

type timingKey struct{}

// WithTiming returns a context whose call's timing a DelayDetector fills in.
func WithTiming(ctx context.Context) (context.Context, *Timing) {
	timing := &Timing{begin: time.Now()}
	return context.WithValue(ctx, timingKey{}, timing), timing
}

// Flags returns the response flags that a proxyless client knows after its call:
// FI for an abort and DI for a delay, comma-separated, or - for none.
func (t *Timing) Flags(err error) string {
	var flags []string
	end := t.stream
	if end.IsZero() {
		end = time.Now()
	}
	aborted := status.Code(err) != codes.OK && strings.Contains(status.Convert(err).Message(), FaultMessage)
	if end.Sub(t.begin) >= delayed && (aborted || !t.stream.IsZero()) {
		flags = append(flags, "DI")
	}
	if aborted {
		flags = append(flags, "FI")
	}
	if len(flags) == 0 {
		return "-"
	}
	return strings.Join(flags, ",")
}

// unanswered returns the flag with which a sidecar would report a call that no
// server has answered: UH where there is no endpoint, DC where the caller would
// not wait any longer.
func unanswered(err error) string {
	switch status.Code(err) {
	case codes.Unavailable:
		return "UH"
	case codes.DeadlineExceeded, codes.Canceled:
		return "DC"
	default:
		return "-"
	}
}

// DelayDetector is a gRPC stats handler that fills in Timing.
type DelayDetector struct{}

var _ stats.Handler = DelayDetector{}

// TagRPC implements stats.Handler.
func (DelayDetector) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler. Only the first attempt of a call counts.
func (DelayDetector) HandleRPC(ctx context.Context, event stats.RPCStats) {
	timing, ok := ctx.Value(timingKey{}).(*Timing)
	if !ok {
		return
	}
	if begin, ok := event.(*stats.Begin); ok && timing.stream.IsZero() {
		timing.stream = begin.BeginTime
	}
}

// TagConn implements stats.Handler.
func (DelayDetector) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (DelayDetector) HandleConn(context.Context, stats.ConnStats) {}
