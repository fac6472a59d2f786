package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/selection"
	"github.com/squall-chaos/squall/internal/app/session"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// scripted is a runner whose runs have the same result.
type scripted struct {
	result event.Result
	ran    []string
}

func (b *scripted) NewRun(e experiments.Experiment, _ time.Time) objects.Run {
	return objects.Run{ID: e.Metadata.Name, Experiment: e.Metadata.Name}
}

func (b *scripted) Run(_ context.Context, run objects.Run, e experiments.Experiment, recorder event.Recorder) event.Result {
	b.ran = append(b.ran, run.ID)
	_ = recorder.Record(time.Now(), event.Started{Run: run, Experiment: e})
	_ = recorder.Record(time.Now(), event.Finished{Result: b.result})
	return b.result
}

// A user who ends a run does not expect the next one.
func TestNothingFollowsARunThatWasEndedFromOutside(t *testing.T) {
	left := []objects.Left{{Ref: objects.Ref{Kind: objects.KindVirtualService, Namespace: "shop", Name: "squall-ratings"}}}
	for name, test := range map[string]struct {
		result event.Result
		ran    int
		code   int
		says   string
	}{
		"held":         {event.Result{Status: event.StatusCompleted, Verdict: steadystate.Held}, 3, exit.Held, ""},
		"drifted":      {event.Result{Status: event.StatusStopped, Verdict: steadystate.Inconclusive}, 3, exit.Inconclusive, ""},
		"rolled back":  {event.Result{Status: event.StatusInterrupted, Verdict: steadystate.Inconclusive, Outside: true}, 1, exit.Interrupted, "ended from outside; 2 experiments not run"},
		"deleted":      {event.Result{Status: event.StatusStopped, Verdict: steadystate.Inconclusive, Outside: true}, 1, exit.Interrupted, "ended from outside; 2 experiments not run"},
		"left objects": {event.Result{Status: event.StatusInterrupted, Verdict: steadystate.Inconclusive, Outside: true, Left: left}, 1, exit.Left, "2 experiments not run"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errors bytes.Buffer
			env := Env{Stdout: &out, Stderr: &errors, Getenv: func(string) string { return "" }}
			chosen := make([]selection.Experiment, 3)
			for i, name := range []string{"one", "two", "three"} {
				chosen[i].Metadata.Name = name
			}
			runs := &scripted{result: test.result}
			code := runAll(t.Context(), env, runFlags{session: session.Session{Directory: t.TempDir(), Quiet: true}}, runs, chosen)
			if code != test.code || len(runs.ran) != test.ran || !strings.Contains(errors.String(), test.says) {
				t.Errorf("exit code %d after %v: %s", code, runs.ran, &errors)
			}
		})
	}
}

// A pipeline must not take a run without its summary or its report for a success. A
// worse exit code stays.
func TestWhatCannotBeWrittenIsNotASuccess(t *testing.T) {
	held := event.Result{Status: event.StatusCompleted, Verdict: steadystate.Held}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close() //nolint:errcheck // nothing is written
	environment := map[string]string{"GITHUB_STEP_SUMMARY": "/dev/full"}
	for name, test := range map[string]struct {
		result  event.Result
		stdout  io.Writer
		getenv  func(string) string
		reports []reports.Format
		codeOf  func(event.Result) int
		code    int
	}{
		"all written":           {result: held, code: exit.Held},
		"summary":               {result: held, stdout: full, code: exit.Inconclusive},
		"GitHub's summary":      {result: held, getenv: func(name string) string { return environment[name] }, code: exit.Inconclusive},
		"report":                {result: held, reports: []reports.Format{reports.FormatJUnit}, code: exit.Inconclusive},
		"deviated":              {result: event.Result{Status: event.StatusCompleted, Verdict: steadystate.Deviated}, stdout: full, code: exit.Deviated},
		"simulation":            {result: event.Result{Status: event.StatusCompleted, Verdict: steadystate.Inconclusive, Untested: true}, codeOf: codeOfOutage, code: exit.Held},
		"simulation, summary":   {result: event.Result{Status: event.StatusCompleted, Verdict: steadystate.Inconclusive, Untested: true}, stdout: full, codeOf: codeOfOutage, code: exit.Inconclusive},
		"simulation, untouched": {result: held, codeOf: codeOfOutage, code: exit.Held},
	} {
		t.Run(name, func(t *testing.T) {
			var errors bytes.Buffer
			env := Env{Stdout: cmp.Or[io.Writer](test.stdout, io.Discard), Stderr: &errors, Getenv: func(string) string { return "" }}
			if test.getenv != nil {
				env.Getenv = test.getenv
			}
			directory := t.TempDir()
			if test.reports != nil { // the name of the report is taken
				if err := os.MkdirAll(filepath.Join(directory, "outage", test.reports[0].FileName()), 0o750); err != nil {
					t.Fatal(err)
				}
			}
			if test.codeOf == nil {
				test.codeOf = exit.Of
			}
			e := experiments.Experiment{Metadata: experiments.Metadata{Name: "outage"}}
			_, code := runOne(t.Context(), env, session.Session{Directory: directory, Quiet: true, Reports: test.reports}, &scripted{result: test.result}, e, test.codeOf)
			if code != test.code || (errors.Len() > 0) != (name != "all written" && name != "simulation" && name != "simulation, untouched") {
				t.Errorf("exit code %d: %s", code, &errors)
			}
		})
	}
}

// The table shows all runs. --fail-fast runs no further one after one that did not hold.
func TestBatch(t *testing.T) {
	for name, test := range map[string]struct {
		verdict  steadystate.Verdict
		failFast bool
		ran      int
		says     string
	}{
		"held":              {verdict: steadystate.Held, failFast: true, ran: 2},
		"deviated":          {verdict: steadystate.Deviated, ran: 2},
		"deviated, at once": {verdict: steadystate.Deviated, failFast: true, ran: 1, says: "squall: --fail-fast; 1 experiment not run\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errors bytes.Buffer
			env := Env{Stdout: &out, Stderr: &errors, Getenv: func(string) string { return "" }}
			chosen := make([]selection.Experiment, 2)
			chosen[0].Metadata.Name, chosen[1].Metadata.Name = "one", "two"
			runs := &scripted{result: event.Result{Status: event.StatusCompleted, Verdict: test.verdict}}
			runAll(t.Context(), env, runFlags{failFast: test.failFast, session: session.Session{Directory: t.TempDir(), Quiet: true}}, runs, chosen)
			table := fmt.Sprintf("\n%d runs: %d %s\n", test.ran, test.ran, test.verdict)
			if test.ran == 1 {
				table = fmt.Sprintf("\n1 run: 1 %s\n", test.verdict)
			}
			if len(runs.ran) != test.ran || errors.String() != test.says || !strings.HasSuffix(out.String(), table) {
				t.Errorf("ran %v: %s%s", runs.ran, &out, &errors)
			}
		})
	}
}
