package runner

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The types of a journal's events, each with the type of its data. They stand
// in the journal in this order, though a run that ends early leaves some out.
const (
	EventStarted      = "started"       // Started
	EventPlanned      = "planned"       // mesh.Plan
	EventPhase        = "phase"         // Phase
	EventMeasured     = "measured"      // steadystate.Measurement
	EventCreating     = "creating"      // Change: about to be created
	EventCreated      = "created"       // mesh.Ref
	EventUpdating     = "updating"      // Change: about to be given this spec
	EventUpdated      = "updated"       // mesh.Ref
	EventUpdateFailed = "update-failed" // Deletion: an update that was not answered, or refused
	EventDeleting     = "deleting"      // mesh.Ref: about to be deleted
	EventDeleted      = "deleted"       // Deletion
	EventHeartbeat    = "heartbeat"     // Heartbeat: one that failed
	EventCounted      = "counted"       // Count: while the fault is in force
	EventEffect       = "effect"        // Effect
	EventFinished     = "finished"      // Result
)

// Started opens a journal.
type Started struct {
	Run        mesh.Run               `json:"run"`
	Experiment experiments.Experiment `json:"experiment"`
	// Version is the version of Squall.
	Version string `json:"version"`
	Cluster string `json:"cluster"`
	// Queries holds the PromQL of each probe and stop condition, as it is sent.
	Queries    map[string]string `json:"queries"`
	Prometheus string            `json:"prometheus"`
	// WithoutHeartbeat tells that nothing would remove the fault of a runner
	// that dies.
	WithoutHeartbeat bool `json:"withoutHeartbeat,omitempty"`
}

// PhaseName is a step of a run.
type PhaseName string

// The steps of a run, in their order.
const (
	PhasePreflight PhaseName = "preflight"
	PhaseBaseline  PhaseName = "baseline"
	PhaseInject    PhaseName = "inject"
	PhaseObserve   PhaseName = "observe"
	PhaseRollback  PhaseName = "rollback"
	PhaseRecover   PhaseName = "recover"
	PhaseEffect    PhaseName = "effect"
)

// Phase says that a step of the run begins.
type Phase struct {
	Name PhaseName `json:"name"`
	// Length is how long it lasts at most, where the file says so.
	Length experiments.Duration `json:"length,omitzero"`
	// Reason says why it begins before its time, where it does.
	Reason string `json:"reason,omitempty"`
}

// Change is an object that is about to be created or updated. It is complete, so that
// anybody can undo it.
type Change struct {
	Object *unstructured.Unstructured `json:"object"`
}

// Deletion is the result of deleting one object, or of an update that failed.
type Deletion struct {
	Object mesh.Ref `json:"object"`
	// Error is empty when the object is gone.
	Error string `json:"error,omitempty"`
}

// Heartbeat is a heartbeat that could not be sent.
type Heartbeat struct {
	Job   mesh.Ref `json:"job"`
	Error string   `json:"error"`
}

// Count is how many calls there were since the counters were read first.
type Count struct {
	// Requests are those that the faults are to hit a share of, and Hit those
	// that they have hit. Expected is the share that was asked for, in requests.
	Requests float64 `json:"requests"`
	Hit      float64 `json:"hit"`
	Expected float64 `json:"expected"`
}

// Effect is the proof from telemetry that the fault hit requests.
type Effect struct {
	// Query is what was asked, at the start and at the end of the fault.
	Query string `json:"query"`
	// Requests is how many requests were hit, as far as Prometheus had scraped
	// them when there were enough. Complete tells that it had scraped all.
	Requests float64             `json:"requests"`
	Complete bool                `json:"complete,omitempty"`
	Verdict  steadystate.Verdict `json:"verdict"`
	Reason   string              `json:"reason,omitempty"`
	// Share compares with what was asked for. Untold says why there is none.
	Share  *Share `json:"share,omitempty"`
	Untold string `json:"untold,omitempty"`
}

// Share is which part of the requests was hit while the fault was in force.
type Share struct {
	// Asked and Achieved are parts of the requests, 0 to 1.
	Asked    float64 `json:"asked"`
	Achieved float64 `json:"achieved"`
	// Requests is how many requests were counted for it.
	Requests float64 `json:"requests"`
}

// Status is how a run ended, whatever the hypothesis says.
type Status string

// The ways in which a run ends.
const (
	Completed   Status = "completed"
	RefusedRun  Status = "refused"     // nothing was injected
	Stopped     Status = "stopped"     // the hypothesis could not hold any more
	Interrupted Status = "interrupted" // by a signal
	Failed      Status = "failed"      // an error of ours or of the cluster
)

// Result closes a journal.
type Result struct {
	Status  Status              `json:"status"`
	Verdict steadystate.Verdict `json:"verdict"`
	// Reason says why the run did not simply complete with a verdict of held.
	Reason string `json:"reason,omitempty"`
	// Hint says what would help.
	Hint     string                `json:"hint,omitempty"`
	Findings []steadystate.Finding `json:"findings,omitempty"`
	// Injected is the time for which the fault was in force, from the last
	// create to the first delete.
	Injected experiments.Duration `json:"injected,omitzero"`
	// Rollback is how long it took to remove every object.
	Rollback experiments.Duration `json:"rollback,omitzero"`
	// Recovery is how long after the rollback the hypothesis held again.
	Recovery experiments.Duration `json:"recovery,omitzero"`
	// Left are the objects that could not be removed.
	Left []mesh.Ref `json:"left,omitempty"`
	// Finished is when the run ended.
	Finished time.Time `json:"finished"`
}
