// Package experiments says what a chaos experiment is: a hypothesis about
// steady state, the faults that challenge it, and how far they may reach.
//
// It holds data only: it loads and validates experiment files. It never
// touches a cluster, a clock or a metric store.
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
	DefaultRecoveryDeadline = 60 * time.Second
)

// Experiment is one document of an experiment file, defaults filled in.
type Experiment struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata names an experiment and carries the labels it is selected by.
type Metadata struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Spec is what to disturb, what must stay true meanwhile, and for how long.
type Spec struct {
	Title       string      `json:"title,omitempty"`
	Description string      `json:"description,omitempty"`
	Target      Target      `json:"target"`
	Callers     []Caller    `json:"callers"`
	Match       []Match     `json:"match,omitempty"`
	Faults      []Fault     `json:"faults"`
	Duration    Duration    `json:"duration"`
	SteadyState SteadyState `json:"steadyState"`
	Effect      Effect      `json:"effect"`
	Recovery    Recovery    `json:"recovery"`
}

// Target is the host whose incoming calls are disturbed.
type Target struct {
	// Host is a fully qualified name, a name known to a ServiceEntry, or,
	// together with Namespace, the short name of a Kubernetes Service.
	Host      string `json:"host"`
	Namespace string `json:"namespace,omitempty"`
	// Port narrows the fault to calls to this service port; 0 means all ports.
	Port int `json:"port,omitempty"`
}

// Caller is a set of workloads whose outgoing calls are disturbed: those of
// one namespace that carry all of the labels.
type Caller struct {
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Match is one condition on requests; its fields are ANDed. The names are
// those of Istio's HTTPMatchRequest.
type Match struct {
	Headers map[string]StringMatch `json:"headers,omitempty"`
}

// StringMatch holds exactly one of its fields, as in Istio. A regex is RE2
// and must match the whole value.
type StringMatch struct {
	Exact  *string `json:"exact,omitempty"`
	Prefix *string `json:"prefix,omitempty"`
	Regex  *string `json:"regex,omitempty"`
}

// Fault is what happens to a share of the matched requests. Abort and delay
// may stand together, as in Istio: the delay comes first.
type Fault struct {
	Name       string      `json:"name,omitempty"`
	Abort      *Abort      `json:"abort,omitempty"`
	Delay      *Delay      `json:"delay,omitempty"`
	Percentage *Percentage `json:"percentage"`
}

// Abort answers a request in place of the target. Exactly one field is set.
type Abort struct {
	HTTPStatus int    `json:"httpStatus,omitempty"`
	GRPCStatus string `json:"grpcStatus,omitempty"`
}

// Delay holds a request back before it is forwarded.
type Delay struct {
	FixedDelay Duration `json:"fixedDelay"`
}

// SteadyState is the hypothesis: all of its probes together.
type SteadyState struct {
	Interval Duration `json:"interval"`
	Probes   []Probe  `json:"probes"`
	// Before is how long the baseline is watched.
	Before Duration `json:"before"`
}

// Probe is one Prometheus query that gives one number, and the tolerance
// that the number must stay in.
type Probe struct {
	Name   string   `json:"name"`
	Query  string   `json:"query"`
	Min    *float64 `json:"min,omitempty"`
	Max    *float64 `json:"max,omitempty"`
	Phases []Phase  `json:"phases"`
	// Settle is how long the probe is not judged after the fault starts and
	// after it ends, because a query's window still holds older samples.
	Settle Duration `json:"settle"`
	// FailureLimit is the number of consecutive misses that is tolerated.
	FailureLimit int    `json:"failureLimit"`
	NoData       NoData `json:"noData"`
}

// Phase is a part of a run in which a probe is judged.
type Phase string

// The phases of a run: before, while and after the fault is in force.
const (
	Before Phase = "before"
	During Phase = "during"
	After  Phase = "after"
)

// In reports whether the probe is judged in the given phase.
func (p Probe) In(phase Phase) bool {
	return slices.Contains(p.Phases, phase)
}

// NoData says what a measurement without a verdict counts as.
type NoData string

// What a measurement without a number counts as.
const (
	NoDataInconclusive NoData = "inconclusive"
	NoDataFail         NoData = "fail"
	NoDataPass         NoData = "pass"
)

// Effect is how much proof of the fault a verdict needs.
type Effect struct {
	// MinRequests is the number of requests that must have been hit; with
	// fewer the run is inconclusive. 0 asks for no proof.
	MinRequests int `json:"minRequests"`
}

// Recovery is how soon the hypothesis must hold again after rollback.
type Recovery struct {
	Within Duration `json:"within"`
}
