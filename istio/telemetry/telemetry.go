// Package telemetry has Istio's standard metrics: their names, their labels,
// the flags that Envoy sets on requests, and how PromQL selects them
// (https://istio.io/latest/docs/reference/config/metrics/).
package telemetry

import (
	"fmt"
	"slices"
	"strings"
)

// The metrics.
const (
	Requests          = "istio_requests_total"
	RequestDuration   = "istio_request_duration_milliseconds_bucket"
	ConnectionsOpened = "istio_tcp_connections_opened_total"
	// Prefix begins the name of every standard metric.
	Prefix = "istio_"
)

// The labels.
const (
	LabelReporter             = "reporter"
	LabelDestination          = "destination_service"
	LabelDestinationName      = "destination_service_name"
	LabelDestinationNamespace = "destination_service_namespace"
	LabelSourceNamespace      = "source_workload_namespace"
	LabelSourceWorkload       = "source_workload"
	LabelResponseFlags        = "response_flags"
	LabelResponseCode         = "response_code"
	LabelProtocol             = "request_protocol"
)

// The reporters: the proxy of the destination, the proxy of the source, and a
// waypoint.
const (
	ReporterDestination = "destination"
	ReporterSource      = "source"
	ReporterWaypoint    = "waypoint"
)

// ProtocolGRPC is the value of request_protocol for gRPC.
const ProtocolGRPC = "grpc"

// Unknown is the value of a label that the proxy has no value for.
const Unknown = "unknown"

// The flags that Envoy sets on a request that its fault filter has aborted or
// delayed (https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage,
// %RESPONSE_FLAGS%).
const (
	FlagAborted = "FI"
	FlagDelayed = "DI"
	// NoFlag is the value of response_flags when there is none.
	NoFlag = "-"
)

// Matcher is one label matcher of a PromQL selector.
type Matcher string

// The matchers that have no argument.
const (
	// BySource matches what the callers' side reports: an aborted request never
	// arrives, so the destination does not count it.
	BySource Matcher = `reporter=~"source|waypoint"`
	// NotAborted leaves out requests that a fault has aborted. Envoy separates the
	// flags of a request by commas.
	NotAborted Matcher = `response_flags!~"(.*,)?FI(,.*)?"`
	// Succeeded matches requests that were answered without a server error. Of
	// gRPC requests it needs NotAborted beside it, because an injected gRPC status
	// has the HTTP status 200.
	Succeeded Matcher = `response_code!~"5..|0"`
	// GRPCSucceeded matches requests that have no gRPC status or the status OK.
	GRPCSucceeded Matcher = `grpc_response_status=~"0?"`
	// NotGRPC matches requests that are not gRPC. Requests that a fault has aborted are
	// reported so too, whatever they are.
	NotGRPC Matcher = `request_protocol!="grpc"`
	// Flagged matches requests with any response flag; Envoy writes "-" for none.
	Flagged Matcher = `response_flags!=""`
)

// From matches calls of the workloads of one namespace.
func From(namespace string) Matcher {
	return Matcher(fmt.Sprintf("%s=%q", LabelSourceNamespace, namespace))
}

// FromAny matches calls of the workloads of any of some namespaces.
func FromAny(namespaces []string) Matcher {
	return Matcher(fmt.Sprintf("%s=~%q", LabelSourceNamespace, oneOf(namespaces)))
}

// Selector returns the PromQL that selects the series of a metric which all
// matchers match.
func Selector(metric string, matchers ...Matcher) string {
	texts := make([]string, len(matchers))
	for i, m := range matchers {
		texts[i] = string(m)
	}
	return metric + "{" + strings.Join(texts, ",") + "}"
}

// HasFlag reports whether a value of response_flags contains a flag.
func HasFlag(value, flag string) bool { return slices.Contains(strings.Split(value, ","), flag) }

// PodLabel returns the label of Istio's metrics that holds a label of the calling
// pod. Only two of a pod's labels have one.
func PodLabel(name string) (label string, ok bool) {
	switch name {
	case "app":
		return "source_app", true
	case "version":
		return "source_version", true
	default:
		return "", false
	}
}
