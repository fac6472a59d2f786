// Package mesh plans an experiment against the configuration of a mesh: it groups
// the faults by the calls that they disturb, finds where a temporary
// VirtualService takes precedence for the callers, renders it so that it carries
// the faults and changes nothing else, and refuses what it cannot do exactly.
//
// It is pure: a config.Snapshot and an Experiment go in, a Plan comes out.
// Package istio has Istio's rules.
package mesh

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh/impact"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// Plan is what a run would create, and why, for each host and namespace of
// callers.
type Plan struct {
	Experiment string `json:"experiment"`
	// Decisions has one entry for each host and namespace of callers, and at
	// least one.
	Decisions []Decision `json:"decisions"`
	// Objects are complete manifests in the order of their creation, in their first
	// state. They do not have the labels of a run yet; objects.Stamp adds them.
	Objects []*unstructured.Unstructured `json:"objects"`
	// Steps are later states of the objects, in the order of their times.
	Steps []Step `json:"steps,omitempty"`
}

// Step is a new state of an object during the experiment, because a fault starts or
// ends.
type Step struct {
	// After is the time from the start of the experiment.
	After  experiments.Duration       `json:"after"`
	Object *unstructured.Unstructured `json:"object"`
}

// Decision is the plan for the calls from one namespace to one host.
type Decision struct {
	// Host is the name by which the mesh knows the target.
	Host    string `json:"host"`
	Callers string `json:"callers"`
	// Gateway is set for calls through a gateway.
	Gateway *Gateway `json:"gateway,omitempty"`
	// Effective is the VirtualService that routes the calls today, as
	// namespace/name, or nil if there is none.
	Effective *string   `json:"inForce"`
	Placement Placement `json:"placement"`
	Namespace string    `json:"namespace,omitempty"`
	ExportTo  []string  `json:"exportTo,omitempty"`
	// Reason explains the placement or the refusal.
	Reason string `json:"reason"`
	// Cause is the kind of a refusal; docs/refusals has a page for each.
	Cause refusal.Cause `json:"cause,omitempty"`
	// Hint is what would help against the refusal.
	Hint string `json:"hint,omitempty"`
	// Blocker is the live run that a refusal with the cause live-run is about.
	Blocker objects.Key `json:"-"`
	// Bases are the effective VirtualService and the ones that it delegates to, in
	// the state that the plan was made from. A new object is a copy of them.
	Bases []Version `json:"-"`
	// Injections are the faults on these calls, each for the callers of this
	// namespace only.
	Injections experiments.Injections `json:"-"`
	// Before and During are the HTTP routes of the callers today and in the first
	// state of the plan in which a fault is active.
	Before []map[string]any `json:"-"`
	During []map[string]any `json:"-"`
	// Undiverted and Diverted are the TCP and TLS routes of the connections that
	// blackholes take, today and in that state.
	Undiverted render.Connections `json:"-"`
	Diverted   render.Connections `json:"-"`
	// Connections is whether the faults are for connections only: no port that they
	// are for has requests.
	Connections bool `json:"connections,omitempty"`
	// Waits are how long the callers wait for what a blackhole drops, and Closes the
	// open connections that their proxies close.
	Waits  []impact.Wait   `json:"waits,omitempty"`
	Closes *impact.Closing `json:"closes,omitempty"`
	// Signature is how the requests that are hit look in telemetry.
	Signature render.Signature `json:"-"`
}

// Version is a state of an object. The generation counts the changes of its spec.
type Version struct {
	objects.Ref
	Generation int64
}

// Placement is how a fault reaches the callers.
type Placement string

// The placements: a new VirtualService where none is effective, a shadow that takes
// precedence over the effective one, copies of the routes of a gateway that take
// precedence over these, or none because the fault could not take effect.
const (
	Plain      Placement = "plain"
	Shadow     Placement = "shadow"
	AtAGateway Placement = "gateway"
	Refused    Placement = "refused"
)

// Gateway is the gateway that the calls of a decision go through.
type Gateway struct {
	// Labels are the labels of its pods.
	Labels map[string]string `json:"labels"`
	// Hosts are the hosts by which clients send the requests that are hit; a host may
	// begin with a wildcard.
	Hosts []string `json:"hosts"`
	// Requests are the requests that are hit, in words: a host, and what a request to it
	// must meet.
	Requests []string `json:"requests,omitempty"`
	// Alone reports whether the namespace of the pods has no other workloads, as far as
	// its Services tell.
	Alone bool `json:"-"`
}

// Options are the user's preferences for a plan.
type Options struct {
	// HomeNamespace is tried first for new objects. If it is empty or does not take
	// precedence, the callers' namespace is tried, then the target's.
	HomeNamespace string
	// BlackholeAddress is the address that dropped connections go to, which must
	// never answer. Empty means render.DefaultBlackholeAddress.
	BlackholeAddress string
	// Denied has the namespaces in which objects cannot be created, with the reason.
	Denied map[string]string
}

// Refusal returns the first decision that refuses; ok is false if none does. A run
// either reaches all of its callers or does not start.
func (p Plan) Refusal() (d Decision, ok bool) {
	i := slices.IndexFunc(p.Decisions, func(d Decision) bool { return d.Placement == Refused })
	if i < 0 {
		return Decision{}, false
	}
	return p.Decisions[i], true
}

// Closing returns how long after a rollback the callers' proxies close the connections
// that are open then; zero if they close none.
func (p Plan) Closing() time.Duration {
	longest := time.Duration(0)
	for _, d := range p.Decisions {
		if d.Closes != nil {
			longest = max(longest, d.Closes.After.Duration)
		}
	}
	return longest
}

// At returns the objects in their states at a time from the start of the
// experiment.
func (p Plan) At(after time.Duration) []*unstructured.Unstructured {
	now := slices.Clone(p.Objects)
	for _, step := range p.Steps {
		i := slices.IndexFunc(now, func(o *unstructured.Unstructured) bool { return objects.RefTo(o) == objects.RefTo(step.Object) })
		if step.After.Duration <= after {
			now[i] = step.Object
		}
	}
	return now
}
