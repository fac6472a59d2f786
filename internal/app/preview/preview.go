// Package preview prints the plan of an experiment for users: the decisions, the
// objects, the warnings, and the rate of requests that the faults would hit.
package preview

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/advice"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/effect"
)

// Planner plans an experiment.
type Planner interface {
	Plan(ctx context.Context, e experiments.Experiment) (runner.Planned, error)
}

// Preview is the plan of one experiment. Its JSON is what squall plan -o json
// prints.
type Preview struct {
	Experiment string                       `json:"experiment"`
	Decisions  []Decision                   `json:"decisions"`
	Objects    []*unstructured.Unstructured `json:"objects"`
	Steps      []mesh.Step                  `json:"steps,omitempty"`
	Warnings   []string                     `json:"warnings"`

	// measured is whether Prometheus has answered.
	measured bool
}

// Decision is a decision of a plan with the rate of the calls that it is about.
type Decision struct {
	mesh.Decision
	// Istio is the version of the callers' control plane; empty if it is not known, and
	// then config.AssumedVersion is assumed.
	Istio string `json:"istio,omitempty"`
	// RequestsPerSecond is the rate of all calls from the namespace to the host.
	// The rates are nil if they are unknown.
	RequestsPerSecond *float64 `json:"requestsPerSecond,omitempty"`
	// HitPerSecond is the rate of the calls that the faults hit.
	HitPerSecond *float64 `json:"hitPerSecond,omitempty"`
	// FailingPerSecond is the rate of the calls that the faults make fail.
	FailingPerSecond *float64 `json:"failingPerSecond,omitempty"`
	// NotGRPCPerSecond is the rate of the calls that are not gRPC, if a fault aborts
	// with a gRPC status.
	NotGRPCPerSecond *float64 `json:"notGRPCPerSecond,omitempty"`
	// AtMost is whether the last two are upper bounds.
	AtMost bool `json:"atMost,omitempty"`

	window time.Duration // of the rates
}

// New plans an experiment and measures the rates of the calls that it would
// disturb.
func New(ctx context.Context, planner Planner, traffic *Traffic, e experiments.Experiment) (Preview, error) {
	plan, err := planner.Plan(ctx, e)
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Experiment: plan.Plan.Experiment, Objects: []*unstructured.Unstructured{}, Warnings: advice.Warnings(plan.Snapshot, plan.Experiment, plan.Plan)}
	p.Warnings = append(p.Warnings, traffic.silent(ctx, plan.Decisions)...)
	if p.Warnings == nil {
		p.Warnings = []string{}
	}
	for _, d := range plan.Decisions {
		decision := Decision{Decision: d, Istio: mesh.SeenBy(plan.Snapshot, d).Plane.Version}
		if d.Placement != mesh.Refused {
			decision.add(traffic.read(ctx, d))
		}
		if others := decision.NotGRPCPerSecond; others != nil && *others > 0 && len(advice.NotGRPC(plan.Snapshot, d)) == 0 {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%g requests/s to %s are not gRPC, and get 200 OK for an abort with a grpcStatus: use httpStatus, which gRPC callers see as a status too", *others, d.Host))
		}
		p.Decisions = append(p.Decisions, decision)
	}
	p.measured = traffic.querier != nil
	for _, object := range plan.Objects {
		p.Objects = append(p.Objects, labelled(object))
	}
	for _, step := range plan.Steps {
		p.Steps = append(p.Steps, mesh.Step{After: step.After, Object: labelled(step.Object)})
	}
	return p, nil
}

// Refused reports whether a run would be refused.
func (p Preview) Refused() bool {
	for _, d := range p.Decisions {
		if d.Placement == mesh.Refused {
			return true
		}
	}
	return false
}

// labelled returns a copy of an object with the label that marks it as Squall's.
func labelled(object *unstructured.Unstructured) *unstructured.Unstructured {
	object = object.DeepCopy()
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[objects.ManagedByLabel] = objects.ManagedByValue
	object.SetLabels(labels)
	return object
}

// add sets the rates. A nil traffic leaves them unknown.
func (d *Decision) add(traffic *effect.Traffic) {
	if traffic == nil {
		return
	}
	requests, hit, failing := rounded(traffic.Requests), rounded(traffic.Hit), rounded(traffic.Failing)
	d.RequestsPerSecond, d.HitPerSecond, d.FailingPerSecond, d.AtMost, d.window = &requests, &hit, &failing, traffic.AtMost, traffic.Window
	if others := rounded(traffic.NotGRPC); advice.AbortsGRPC(d.Decision) {
		d.NotGRPCPerSecond = &others
	}
}
