package scheduler

import "errors"

// Reason classifies why a start is skipped or waits. Metrics have it as a label.
type Reason string

// The reasons.
const (
	Deadline    Reason = "deadline"    // it is later than the schedule's startingDeadline
	Window      Reason = "window"      // outside the schedule's windows, or on an excluded date
	Concurrency Reason = "concurrency" // another run disturbs the same host
	Limit       Reason = "limit"       // the maximum number of runs is live
	Host        Reason = "host"        // its target is protected
	Percentage  Reason = "percentage"  // it would hit a larger share of requests than permitted
	Duration    Reason = "duration"    // it would last longer than permitted
	Paused      Reason = "paused"      // all starts by schedule are paused
	Failure     Reason = "error"       // the run could not begin
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{Deadline, Window, Concurrency, Limit, Host, Percentage, Duration, Paused, Failure}
}

// BlockedError is why an experiment cannot start, now or at all.
type BlockedError struct {
	Reason Reason
	Text   string
}

// Error implements error.
func (e *BlockedError) Error() string { return e.Text }

// ReasonOf returns the reason of a BlockedError, and Failure for any other error.
func ReasonOf(err error) Reason {
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		return blocked.Reason
	}
	return Failure
}
