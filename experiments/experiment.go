// Package experiments defines what a chaos experiment is: a hypothesis about the
// steady state, the faults that challenge it, and which calls they disturb.
//
// It is data only: package files loads and validates experiment files. Nothing here
// uses a cluster, a clock or a metric store.
package experiments

import (
	"slices"
	"time"
)

// The apiVersion and kind that every experiment document carries.
const (
	APIVersion = "squall.dev/v1alpha1"
	Kind       = "Experiment"
)

// Defaults of the fields that a file may omit.
const (
	DefaultInterval         = 5 * time.Second
	DefaultBaselineSamples  = 3
	DefaultEffectMinimum    = 1
	DefaultEffectShare      = Share(0.5)
	DefaultRecoveryDeadline = 60 * time.Second
	DefaultWindow           = time.Minute
	DefaultQuantile         = 0.99
	DefaultTimeZone         = "UTC"
	DefaultStartingDeadline = time.Minute
)

// Experiment defines which calls to disturb, what must stay true meanwhile, and for
// how long.
type Experiment struct {
	// The version of the format.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=squall.dev/v1alpha1"`
	// The kind of document.
	Kind string `json:"kind" jsonschema:"required,enum=Experiment"`
	// The experiment's name, and the labels by which it is selected.
	Metadata Metadata `json:"metadata" jsonschema:"required"`
	// The calls to disturb, the hypothesis that must hold meanwhile, and the duration.
	Spec Spec `json:"spec" jsonschema:"required"`
}

// Metadata names an experiment and carries the labels it is selected by.
type Metadata struct {
	// The experiment's name: lower-case letters, digits and dashes.
	Name string `json:"name" jsonschema:"required,pattern=^[a-z0-9]([-a-z0-9]*[a-z0-9])?$,maxLength=63,example=ratings-outage"`
	// Labels as in Kubernetes; `squall run -l team=reviews` selects by them.
	Labels map[string]string `json:"labels,omitempty"`
}

// Spec is what to disturb, what must stay true meanwhile, and for how long.
type Spec struct {
	// One line that says what is expected to be true.
	Title string `json:"title,omitempty" jsonschema:"example=The product page survives a ratings outage"`
	// Why the experiment exists and what to do when it deviates.
	Description string `json:"description,omitempty"`
	// The host whose incoming calls are disturbed.
	Target Target `json:"target" jsonschema:"required"`
	// The workloads whose outgoing calls are disturbed; their proxies inject the fault.
	Callers []Caller `json:"callers,omitempty"`
	// Only requests that satisfy one of these conditions are disturbed; omitted means every request.
	Match []Match `json:"match,omitempty"`
	// The faults to inject.
	Faults []Fault `json:"faults" jsonschema:"required,minItems=1"`
	// How long the faults are active.
	Duration Duration `json:"duration" jsonschema:"required"`
	// The hypothesis: what must stay true.
	SteadyState SteadyState `json:"steadyState" jsonschema:"required"`
	// The run ends as soon as one of these conditions is missed.
	StopConditions []StopCondition `json:"stopConditions,omitempty"`
	// The proof of the fault that a verdict needs.
	Effect Effect `json:"effect"`
	// How soon the hypothesis must hold again.
	Recovery Recovery `json:"recovery"`
	// When `squall serve` starts the experiment by itself.
	Schedule *Schedule `json:"schedule,omitempty"`
}

// Target is the host whose incoming calls are disturbed.
type Target struct {
	// A fully qualified name, a host of a ServiceEntry, or, together with namespace, the short name of a Kubernetes Service.
	Host string `json:"host" jsonschema:"required,example=ratings.prod.svc.cluster.local"`
	// The namespace that a short host name belongs to.
	Namespace string `json:"namespace,omitempty" jsonschema:"example=prod"`
	// Only calls to this service port; omitted means all ports.
	Port int `json:"port,omitempty" jsonschema:"minimum=1,maximum=65535"`
	// Only calls routed to this subset of a DestinationRule; for blackholes only.
	Subset string `json:"subset,omitempty" jsonschema:"example=v1"`
}

// Caller is a set of workloads whose outgoing calls are disturbed: the workloads of
// one namespace that have all of the labels, or the pods of a gateway.
type Caller struct {
	// The callers' namespace.
	Namespace string `json:"namespace,omitempty" jsonschema:"example=shop"`
	// The labels that the callers' pods have; omitted means every workload of the namespace.
	Labels map[string]string `json:"labels,omitempty"`
	// The pods of an ingress or egress gateway, instead of a namespace and labels.
	Gateway *Gateway `json:"gateway,omitempty"`
}

// Gateway is the pods of an ingress or egress gateway, by which calls enter or leave the
// mesh.
type Gateway struct {
	// The namespace of the gateway's pods.
	Namespace string `json:"namespace" jsonschema:"required,example=istio-ingress"`
	// The labels that the gateway's pods have, as in the selector of a Gateway.
	Labels map[string]string `json:"labels" jsonschema:"required"`
}

// Match is one condition on requests; its fields are ANDed. The names are the same as
// in Istio's HTTPMatchRequest.
type Match struct {
	// The path, without the query.
	URI *StringMatch `json:"uri,omitempty"`
	// The scheme: http or https.
	Scheme *StringMatch `json:"scheme,omitempty"`
	// The method, such as GET.
	Method *StringMatch `json:"method,omitempty"`
	// The Host or :authority header.
	Authority *StringMatch `json:"authority,omitempty"`
	// Headers by their lower-case name; an empty condition only requires that the header exists.
	Headers map[string]StringMatch `json:"headers,omitempty"`
	// Headers that must not exist, or must not have such a value.
	WithoutHeaders map[string]StringMatch `json:"withoutHeaders,omitempty"`
	// Query parameters by their name.
	QueryParams map[string]StringMatch `json:"queryParams,omitempty"`
	// Compare the uri without regard to case; for exact and prefix.
	IgnoreURICase bool `json:"ignoreUriCase,omitempty"`
}

// StringMatch has at most one of its fields, as in Istio.
type StringMatch struct {
	// The whole value.
	Exact *string `json:"exact,omitempty"`
	// How the value begins.
	Prefix *string `json:"prefix,omitempty"`
	// An RE2 regular expression that matches the whole value.
	Regex *string `json:"regex,omitempty" jsonschema:"maxLength=1024"`
}

// Fault is what happens to a share of the matched requests. Abort and delay can be
// combined, as in Istio: the delay comes first.
type Fault struct {
	// A name, unique in the experiment.
	Name string `json:"name,omitempty" jsonschema:"example=outage"`
	// Answer requests instead of the target.
	Abort *Abort `json:"abort,omitempty"`
	// Delay requests before they are forwarded.
	Delay *Delay `json:"delay,omitempty"`
	// Send requests nowhere.
	Blackhole *Blackhole `json:"blackhole,omitempty"`
	// The share of the matched requests; abort and delay each hit that share, independently of each other. Required for abort and delay, 100 by default for a blackhole.
	Percentage *Percentage `json:"percentage,omitempty"`
	// How long after the start of the experiment the fault starts.
	StartAfter Duration `json:"startAfter,omitzero"`
	// How long the fault is active; omitted means until the end of the experiment.
	Duration Duration `json:"duration,omitzero"`
	// The fault's target, instead of the experiment's.
	Target *Target `json:"target,omitempty"`
	// The fault's callers, instead of the experiment's.
	Callers []Caller `json:"callers,omitempty"`
	// The fault's conditions, instead of the experiment's.
	Match []Match `json:"match,omitempty"`
}

// Abort answers a request instead of the target. Exactly one field is set.
type Abort struct {
	// An HTTP status; gRPC callers see the gRPC status that it maps to.
	HTTPStatus int `json:"httpStatus,omitempty" jsonschema:"minimum=200,maximum=599,example=503"`
	// A gRPC status by its name.
	GRPCStatus GRPCStatus `json:"grpcStatus,omitempty" jsonschema:"example=UNAVAILABLE"`
}

// Delay delays a request before it is forwarded.
type Delay struct {
	// How long, in whole milliseconds.
	FixedDelay Duration `json:"fixedDelay" jsonschema:"required"`
}

// Blackhole sends requests nowhere, in the router: the mesh's retries, timeouts and
// outlier detection apply.
type Blackhole struct {
	// Reject: no endpoint, so requests fail at once and connections are closed at once. Drop: the connection hangs.
	Mode BlackholeMode `json:"mode" jsonschema:"required,enum=reject,enum=drop"`
}

// BlackholeMode is how a blackhole treats a connection.
type BlackholeMode string

// The modes of a blackhole: failing at once, and hanging.
const (
	Reject BlackholeMode = "reject"
	Drop   BlackholeMode = "drop"
)

// SteadyState is the hypothesis: all of its probes together.
type SteadyState struct {
	// How often the probes are measured.
	Interval Duration `json:"interval,omitzero" jsonschema:"default=5s"`
	// The measurements of the hypothesis. An explicit empty list means that no hypothesis is tested.
	Probes []Probe `json:"probes" jsonschema:"required"`
	// How long the baseline is watched; default three intervals.
	Before Duration `json:"before,omitzero"`
}

// Probe is one Prometheus query that returns one number, and the tolerance that the
// number must stay within.
type Probe struct {
	// The statement that must stay true, in words; unique in the experiment.
	Name string `json:"name" jsonschema:"required,example=product page answers"`
	Measure
	// The smallest healthy value.
	Min *Bound `json:"min,omitempty"`
	// The largest healthy value; for latency also a duration, such as 800ms.
	Max *Bound `json:"max,omitempty"`
	// How far the value may fall below the median of the baseline, such as 5%.
	MaxDrop *Share `json:"maxDrop,omitempty"`
	// How far the value may rise above the median of the baseline, such as 20%.
	MaxRise *Share `json:"maxRise,omitempty"`
	// When the probe is judged; default all three.
	Phases []Phase `json:"phases,omitempty" jsonschema:"minItems=1"`
	// How long the probe is not judged after the fault starts and after it ends, because a query's window still includes older samples.
	Settle Duration `json:"settle,omitzero" jsonschema:"default=0s"`
	// How many consecutive misses are tolerated.
	FailureLimit int `json:"failureLimit,omitempty" jsonschema:"minimum=0,default=0"`
	// The verdict of a measurement without exactly one finite number.
	NoData NoData `json:"noData,omitempty" jsonschema:"enum=inconclusive,enum=fail,enum=pass,default=inconclusive"`
	// Alerts holds the labels of the alerts that a stop condition counts.
	Alerts map[string]string `json:"-"`
}

// Measure is what is measured: exactly one of its fields is set.
type Measure struct {
	// A PromQL expression that returns one number.
	Query string `json:"query,omitempty"`
	// The share of a service's requests that do not fail, 0 to 1.
	SuccessRate *SuccessRate `json:"successRate,omitempty"`
	// A quantile of a service's response time, in milliseconds.
	Latency *Latency `json:"latency,omitempty"`
	// A service's requests per second.
	RequestRate *RequestRate `json:"requestRate,omitempty"`
}

// SuccessRate is the share of a service's requests that do not fail, as its
// callers see it: no HTTP 5xx, no failing gRPC status, no answer of the
// callers' own proxy.
type SuccessRate struct {
	// The service: name.namespace, or a fully qualified host.
	Destination string `json:"destination" jsonschema:"required,example=productpage.shop"`
	// The range of the rate.
	Window Duration `json:"window,omitzero" jsonschema:"default=1m"`
	// Ignore requests that a fault of Squall or Istio has aborted.
	ExcludeInjected bool `json:"excludeInjected,omitempty" jsonschema:"default=false"`
}

// Latency is a quantile of a service's response time as its callers see it,
// in milliseconds.
type Latency struct {
	// The service: name.namespace, or a fully qualified host.
	Destination string `json:"destination" jsonschema:"required,example=productpage.shop"`
	// Which quantile.
	Quantile float64 `json:"quantile,omitempty" jsonschema:"default=0.99"`
	// The range of the rate.
	Window Duration `json:"window,omitzero" jsonschema:"default=1m"`
}

// RequestRate is a service's requests per second as its callers see them.
type RequestRate struct {
	// The service: name.namespace, or a fully qualified host.
	Destination string `json:"destination" jsonschema:"required,example=productpage.shop"`
	// The range of the rate.
	Window Duration `json:"window,omitzero" jsonschema:"default=1m"`
}

// StopCondition ends the run at once when it is missed: a measure outside its
// tolerance, or a firing alert.
type StopCondition struct {
	// The event that must not happen, in words; unique among probes and stop conditions.
	Name string `json:"name" jsonschema:"required,example=no page is firing"`
	Measure
	// The smallest healthy value.
	Min *Bound `json:"min,omitempty"`
	// The largest healthy value; for latency also a duration, such as 800ms.
	Max *Bound `json:"max,omitempty"`
	// The labels of alerts; any firing alert that has them all ends the run.
	Alerts map[string]string `json:"alerts,omitempty"`
	// The verdict of a measurement without exactly one finite number.
	NoData NoData `json:"noData,omitempty" jsonschema:"enum=inconclusive,enum=fail,enum=pass,default=inconclusive"`
}

// Phase is a part of a run in which a probe is judged.
type Phase string

// The phases of a run: before, while and after the fault is active.
const (
	Before Phase = "before"
	During Phase = "during"
	After  Phase = "after"
)

// In reports whether the probe is judged in the given phase.
func (p Probe) In(phase Phase) bool { return slices.Contains(p.Phases, phase) }

// NoData is the verdict of a measurement without a number.
type NoData string

// The verdicts of a measurement without a number.
const (
	NoDataInconclusive NoData = "inconclusive"
	NoDataFail         NoData = "fail"
	NoDataPass         NoData = "pass"
)

// Effect is the proof of the fault that a verdict needs.
type Effect struct {
	// How many requests must be hit; with fewer the run is inconclusive. 0 requires no proof.
	MinRequests int `json:"minRequests" jsonschema:"minimum=0,default=1"`
	// How much of the wanted share must be hit; with less the run is inconclusive.
	MinShare *Share `json:"minShare,omitempty" jsonschema:"default=50%"`
}

// Recovery is how soon the hypothesis must hold again after rollback.
type Recovery struct {
	// The time after the rollback; if it passes, the run has deviated.
	Within Duration `json:"within" jsonschema:"default=60s"`
}

// Schedule is when `squall serve` starts an experiment by itself. The names are the
// same as in a CronJob.
type Schedule struct {
	// A cron expression with five fields, or a descriptor such as @daily.
	Cron string `json:"cron" jsonschema:"required,example=0 10 * * TUE"`
	// The IANA name of the time zone that cron, windows and except are in.
	TimeZone string `json:"timeZone,omitempty" jsonschema:"default=UTC,example=Europe/Paris"`
	// How a start is handled while the last run is live: Forbid skips the start, Replace ends the last run, Allow waits until no run disturbs the host.
	ConcurrencyPolicy ConcurrencyPolicy `json:"concurrencyPolicy,omitempty" jsonschema:"enum=Allow,enum=Forbid,enum=Replace,default=Forbid"`
	// How late a start may be, counted from its jittered time; a later start is skipped.
	StartingDeadline Duration `json:"startingDeadline,omitzero" jsonschema:"default=1m"`
	// Delay each start by less than this; the delay depends on the experiment's name and the time.
	Jitter Duration `json:"jitter,omitzero"`
	// Start no runs.
	Suspend bool `json:"suspend,omitempty" jsonschema:"default=false"`
	// Start only inside these windows; omitted means at any time.
	Windows []Window `json:"windows,omitempty"`
	// Never start on these dates.
	Except []Dates `json:"except,omitempty"`
}

// ConcurrencyPolicy is what happens if the last run has not ended.
type ConcurrencyPolicy string

// The concurrency policies, as for a CronJob.
const (
	Allow   ConcurrencyPolicy = "Allow"
	Forbid  ConcurrencyPolicy = "Forbid"
	Replace ConcurrencyPolicy = "Replace"
)
