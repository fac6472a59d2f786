// Package event has the events of a run: one type for each fact that a run
// records, and their translation to and from the lines of a journal.
//
// The journal of a run is the sequence of its events. The terminal, the page
// of squall serve, metrics and reports are consumers of that sequence.
//
// Event is a sealed interface. A type switch over an Event lists every type of
// event, also those that it ignores; the linter gochecksumtype reports one that
// does not.
package event

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Event is one fact of a run. Its JSON is the data of a line of the journal.
//
//sumtype:decl
type Event interface {
	// Type returns the type of the event's line in a journal.
	Type() string
	sealed()
}

// Started is the first event of a run.
type Started struct {
	Run        objects.Run            `json:"run"`
	Experiment experiments.Experiment `json:"experiment"`
	// Version is the version of Squall.
	Version string `json:"version"`
	Cluster string `json:"cluster"`
	// Queries maps the name of each probe and stop condition to its PromQL.
	Queries map[string]string `json:"queries"`
	// Prometheus is the address of the server that evaluates the queries.
	Prometheus string `json:"prometheus"`
	// WithoutHeartbeat reports that the cluster would not have removed the fault
	// if the runner had died.
	WithoutHeartbeat bool `json:"withoutHeartbeat,omitempty"`
}

// Planned is recorded in the preflight, and again when the run has rendered its
// objects again because their bases have changed.
type Planned struct {
	mesh.Plan
	// Warnings are what may be wrong with the plan although it is not refused.
	Warnings []string `json:"warnings,omitempty"`
}

// PhaseName is the name of a phase of a run.
type PhaseName string

// The phases of a run, in order.
const (
	PhasePreflight PhaseName = "preflight"
	PhaseBaseline  PhaseName = "baseline"
	PhaseScrapes   PhaseName = "scrapes" // only if the run waits for scrapes before the fault
	PhaseInject    PhaseName = "inject"
	PhaseObserve   PhaseName = "observe"
	PhaseRollback  PhaseName = "rollback"
	PhaseRecover   PhaseName = "recover"
	PhaseClean     PhaseName = "clean" // only if the run waits for scrapes after the recovery
	PhaseClose     PhaseName = "close" // only if proxies close connections after the rollback
	PhaseEffect    PhaseName = "effect"
)

// Phase is recorded when a phase of the run begins. The rollback is recorded
// only after the first attempt to delete every object.
type Phase struct {
	Name PhaseName `json:"name"`
	// Length is the longest time that the phase takes, if the experiment sets one.
	Length experiments.Duration `json:"length,omitzero"`
	// Reason is why a rollback begins early; empty for any other phase.
	Reason string `json:"reason,omitempty"`
}

// Measured is one measurement of a probe or stop condition.
type Measured struct{ steadystate.Measurement }

// Creating is recorded before an object is created. The object is complete, so
// that it can be deleted after a crash.
type Creating struct {
	Object *unstructured.Unstructured `json:"object"`
}

// Created is recorded when the API server has created an object.
type Created struct{ objects.Ref }

// Updating is recorded before an object of the run gets a new spec.
type Updating struct {
	Object *unstructured.Unstructured `json:"object"`
}

// Updated is recorded when the API server has updated an object.
type Updated struct{ objects.Ref }

// UpdateFailed is an update that the API server has refused or not answered.
type UpdateFailed struct {
	Object objects.Ref `json:"object"`
	Error  string      `json:"error,omitempty"`
}

// Deleting is recorded before an expired object of an earlier run is deleted.
type Deleting struct{ objects.Ref }

// Deleted is the result of an attempt to delete an object.
type Deleted struct {
	Object objects.Ref `json:"object"`
	// Error is empty when the object is gone.
	Error string `json:"error,omitempty"`
	// Finalizers keep the object although the cluster has accepted its deletion.
	Finalizers []string `json:"finalizers,omitempty"`
	// Withdrawn reports that the object applies to no calls any longer.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// HeartbeatFailed is an attempt to extend the deadline of a heartbeat Job that
// failed.
type HeartbeatFailed struct {
	Job   objects.Ref `json:"job"`
	Error string      `json:"error"`
}

// Counted is the number of requests since the counters were first read. It is
// recorded whenever it changes while a fault is active.
type Counted struct {
	// Requests is the number of requests of the callers to the target, and Hit
	// the number of those that a fault has hit.
	Requests float64 `json:"requests"`
	Hit      float64 `json:"hit"`
	// Expected is the number of requests that the faults should have hit.
	Expected float64 `json:"expected"`
}

// Finished is the last event of a run.
type Finished struct{ Result }

// IDTime is the layout of the time at the beginning of a run's id.
const IDTime = "20060102-150405"
