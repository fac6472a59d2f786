// Package exit has the exit codes of the program, and the errors that end it with one.
package exit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The exit codes.
const (
	Held         = 0
	Deviated     = 1
	Usage        = 2 // bad usage or file
	Inconclusive = 3 // inconclusive, refused, or a server that does not answer
	Interrupted  = 4 // interrupted or ended from outside, and clean
	Left         = 5 // rollback incomplete
)

// Error ends the program with an exit code. Its cause is printed, if it has one. Any
// other error of a command is one of usage.
type Error struct {
	Code  int
	Cause error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// With returns the error that ends the program with a code and prints nothing, and
// nil for Held.
func With(code int) error {
	if code == Held {
		return nil
	}
	return &Error{Code: code}
}

// Failed returns the error that ends the program because of err, which is not one of
// usage, or because ctx has ended.
func Failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &Error{Code: Interrupted, Cause: errors.New("interrupted")}
	}
	return &Error{Code: Inconclusive, Cause: err}
}

// Of returns the exit code of a run, whose result is empty if it did not start.
func Of(result event.Result) int {
	switch {
	case result.Status == "":
		return Inconclusive
	case len(result.Left) > 0, result.StillHit:
		return Left
	case result.Verdict == steadystate.Deviated:
		return Deviated
	case result.Status == event.StatusInterrupted, result.Outside:
		return Interrupted
	case result.Verdict == steadystate.Inconclusive:
		return Inconclusive
	default:
		return Held
	}
}

// Worst returns the most severe of the exit codes.
func Worst(codes ...int) int {
	for _, code := range []int{Left, Deviated, Interrupted, Inconclusive, Usage} {
		if slices.Contains(codes, code) {
			return code
		}
	}
	return Held
}
