package event

import (
	"math"
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
	// Injected is the time for which the fault was known to be active, and InjectedMost
	// the longest time for which it may have been; zero if they differ by less than a
	// second.
	Injected     experiments.Duration `json:"injected,omitzero"`
	InjectedMost experiments.Duration `json:"injectedMost,omitzero"`
	// Rollback is the time that it took to delete every object.
	Rollback experiments.Duration `json:"rollback,omitzero"`
	// Recovery is the time from the rollback until the hypothesis held again.
	Recovery experiments.Duration `json:"recovery,omitzero"`
	// Left are the objects that could not be deleted.
	Left []objects.Left `json:"left,omitempty"`
	// StillHit reports that proxies still injected the fault after the rollback.
	StillHit bool `json:"stillHit,omitempty"`
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
	// AnsweredOK is the number of the requests hit that got 200 OK for an abort with a
	// gRPC status, because their callers do not speak gRPC. Callers whose protocol is
	// not known are not counted.
	AnsweredOK float64 `json:"answeredOK,omitempty"`
}

// Share is the part of the requests that was hit while the fault was active.
type Share struct {
	// Wanted and Achieved are parts of Requests, 0 to 1.
	Wanted   float64 `json:"asked"`
	Achieved float64 `json:"achieved"`
	// Requests is the number of requests that Achieved was computed from.
	Requests float64 `json:"requests"`
}

// doubt is the number of standard deviations that a share may differ by chance.
const doubt = 4

// chance returns how much Achieved may differ from Wanted by chance. At shares of 0
// and 1 there is no chance, but requests may be in flight while the counters are
// read.
func (s Share) chance() float64 {
	return doubt * math.Sqrt(math.Max(s.Wanted*(1-s.Wanted), 1/s.Requests)/s.Requests)
}

// IsSmaller reports whether fewer requests were hit than wanted, and chance does not
// explain it.
func (s Share) IsSmaller() bool { return s.Achieved < s.Wanted-s.chance() }

// IsLarger reports whether more requests were hit than wanted, and chance does not
// explain it.
func (s Share) IsLarger() bool { return s.Achieved > s.Wanted+s.chance() }

// MuchSmaller reports whether less than a part of the wanted share was hit, and
// chance does not explain it.
func (s Share) MuchSmaller(part float64) bool {
	return s.Achieved < part*s.Wanted && s.IsSmaller()
}

// CleanState is what the counters show after a rollback.
type CleanState string

// The states.
const (
	// CleanSeen: calls without a hit were seen.
	CleanSeen CleanState = "clean"
	// CleanNoCalls: no hit was seen, but there were no calls either.
	CleanNoCalls CleanState = "no-calls"
	// CleanUnobserved: the counters could not be read twice.
	CleanUnobserved CleanState = "unobserved"
	// CleanNotCounted: the run counts no requests.
	CleanNotCounted CleanState = "not-counted"
	// CleanStillHit: calls are still hit.
	CleanStillHit CleanState = "still-hit"
)

// Clean is what the metrics of the callers' proxies show after a rollback. The
// objects of the faults are gone from the API server; proxies that istiod has not
// updated still inject.
type Clean struct {
	State CleanState `json:"state"`
	// After is the time from the rollback until the calls were clean.
	After experiments.Duration `json:"after,omitzero"`
	// Calls is the number of calls without a hit that were seen.
	Calls float64 `json:"calls,omitempty"`
	// Rate is the number of requests hit per second, in the last scrape interval.
	Rate float64 `json:"rate,omitempty"`
	// Reason is why nothing was observed.
	Reason string `json:"reason,omitempty"`
	// Closes is the time from the rollback until proxies close the TCP and TLS
	// connections that were open then; zero if they close none. Awaited reports that
	// the run has waited for it.
	Closes  experiments.Duration `json:"closes,omitzero"`
	Awaited bool                 `json:"awaited,omitempty"`
}
