package event

import (
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh/objects"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Status is how a run ended, independent of its verdict.
type Status string

// The statuses.
const (
	StatusCompleted   Status = "completed"
	StatusRefused     Status = "refused"     // nothing was injected
	StatusStopped     Status = "stopped"     // a deviation ended the fault early
	StatusInterrupted Status = "interrupted" // by a signal or the kill switch
	StatusFailed      Status = "failed"      // an error of Squall or of the cluster
)

// Result is the outcome of a run.
type Result struct {
	Status  Status              `json:"status"`
	Verdict steadystate.Verdict `json:"verdict"`
	// Outside reports that the run was ended by the kill switch, or because an object of
	// it was deleted by another user or program.
	Outside bool `json:"outside,omitempty"`
	// Reason explains any outcome but a completed run with the verdict held.
	Reason string `json:"reason,omitempty"`
	// Hint is the next step.
	Hint string `json:"hint,omitempty"`
	// Untested reports that the verdict is inconclusive only because the
	// experiment has no probe.
	Untested bool                  `json:"untested,omitempty"`
	Findings []steadystate.Finding `json:"findings,omitempty"`
	// Injected is the time from the last create to the first delete.
	Injected experiments.Duration `json:"injected,omitzero"`
	// Rollback is the time that it took to delete every object.
	Rollback experiments.Duration `json:"rollback,omitzero"`
	// Recovery is the time from the rollback until the hypothesis held again.
	Recovery experiments.Duration `json:"recovery,omitzero"`
	// Left are the objects that could not be deleted.
	Left []objects.Left `json:"left,omitempty"`
	// Finished is when the run ended.
	Finished time.Time `json:"finished"`
}

// Effect is the number of requests that the faults of a run have hit, as Istio's
// metrics report it, and the verdict on that.
type Effect struct {
	// Query is the PromQL that was sent, at the start and at the end of the fault.
	Query string `json:"query"`
	// Requests is the number of requests hit that Prometheus had scraped when
	// there were enough. Complete reports that it had scraped all of them.
	Requests float64             `json:"requests"`
	Complete bool                `json:"complete,omitempty"`
	Verdict  steadystate.Verdict `json:"verdict"`
	Reason   string              `json:"reason,omitempty"`
	// Share compares with the share that the experiment asks for. NoShare is why
	// it is nil.
	Share   *Share `json:"share,omitempty"`
	NoShare string `json:"untold,omitempty"`
}

// Share is the part of the requests that was hit while the fault was active.
type Share struct {
	// Wanted and Achieved are parts of Requests, 0 to 1.
	Wanted   float64 `json:"asked"`
	Achieved float64 `json:"achieved"`
	// Requests is the number of requests that Achieved was computed from.
	Requests float64 `json:"requests"`
}
