package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The exit codes.
const (
	exitHeld         = 0
	exitDeviated     = 1
	exitUsage        = 2 // bad usage or file
	exitInconclusive = 3 // inconclusive, refused, or a server that does not answer
	exitInterrupted  = 4 // interrupted or ended from outside, and clean
	exitLeft         = 5 // rollback incomplete
)

// exitError ends the program with an exit code. Main prints its cause, if it has
// one. Any other error of a command is one of usage.
type exitError struct {
	code  int
	cause error
}

// Error implements error.
func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.cause }

// exit returns the error that ends the program with a code and prints nothing, and
// nil for exitHeld.
func exit(code int) error {
	if code == exitHeld {
		return nil
	}
	return &exitError{code: code}
}

// invalid returns the error that ends the program because of err, which is one of
// usage. It prints the problems of files, a line for each.
func invalid(env Env, err error) error {
	if problems, ok := errors.AsType[problem.List](err); ok {
		printProblems(env, problems)
		return exit(exitUsage)
	}
	return err
}

// printProblems prints the problems of files to stderr, a line for each. In a job of
// GitHub Actions each is an annotation of the file, too.
func printProblems(env Env, problems problem.List) {
	fmt.Fprintln(env.Stderr, problems.Error())
	if env.Getenv("GITHUB_ACTIONS") != "true" {
		return
	}
	for _, p := range problems {
		place := problem.Problem{File: p.File, Line: p.Line, Column: p.Column}
		_ = reports.FileAnnotation(env.Stderr, p.File, p.Line, p.Column, strings.TrimPrefix(p.String(), place.String())) // the line above has all of it
	}
}

// failed returns the error that ends the program because of err, which is not one of
// usage, or because ctx has ended.
func failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &exitError{code: exitInterrupted, cause: errors.New("interrupted")}
	}
	return &exitError{code: exitInconclusive, cause: err}
}

// codeOf returns the exit code of a run, whose result is empty if it did not start.
func codeOf(result event.Result) int {
	switch {
	case result.Status == "":
		return exitInconclusive
	case len(result.Left) > 0, result.StillHit:
		return exitLeft
	case result.Verdict == steadystate.Deviated:
		return exitDeviated
	case result.Status == event.StatusInterrupted, result.Outside:
		return exitInterrupted
	case result.Verdict == steadystate.Inconclusive:
		return exitInconclusive
	default:
		return exitHeld
	}
}

// worstCode returns the most severe of the exit codes.
func worstCode(codes ...int) int {
	for _, code := range []int{exitLeft, exitDeviated, exitInterrupted, exitInconclusive, exitUsage} {
		if slices.Contains(codes, code) {
			return code
		}
	}
	return exitHeld
}
