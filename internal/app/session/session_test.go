package session_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/internal/app/session"
	"github.com/squall-chaos/squall/internal/app/terminal"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// held is a runner whose runs hold at once.
type held struct{ started bool }

func (*held) NewRun(e experiments.Experiment, now time.Time) objects.Run {
	return objects.Run{ID: "run-1", Experiment: e.Metadata.Name, Expires: now.Add(time.Minute)}
}

func (h *held) Run(_ context.Context, run objects.Run, e experiments.Experiment, recorder event.Recorder) event.Result {
	h.started = true
	result := event.Result{Status: event.StatusCompleted, Verdict: steadystate.Held, Finished: time.Now()}
	for _, recorded := range []event.Event{event.Started{Run: run, Experiment: e}, event.Phase{Name: event.PhasePreflight}, event.Finished{Result: result}} {
		if err := recorder.Record(time.Now(), recorded); err != nil {
			result.Reason = err.Error()
		}
	}
	return result
}

var outage = experiments.Experiment{Metadata: experiments.Metadata{Name: "outage"}}

func TestRun(t *testing.T) {
	out, summary := t.TempDir(), filepath.Join(t.TempDir(), "summary.md")
	environment := map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": summary}
	var stdout, stderr strings.Builder
	var ended []reports.Summary
	s := session.Session{
		Directory: out, Reports: []reports.Format{reports.FormatJSON}, Format: terminal.Text,
		Stdout: &stdout, Stderr: &stderr, Getenv: func(name string) string { return environment[name] },
		Cluster: "context staging", Ended: func(s reports.Summary) { ended = append(ended, s) },
	}
	result, err := s.Run(t.Context(), &held{}, outage)
	if err != nil || result.Verdict != steadystate.Held {
		t.Fatalf("%+v: %v", result, err)
	}
	if text := stdout.String(); !strings.HasPrefix(text, "outage: held\n") || !strings.Contains(text, "::notice title=squall outage::held\n") {
		t.Errorf("stdout %q", text)
	}
	if text := stderr.String(); !strings.HasPrefix(text, "squall: outage: in context staging\nsquall: outage: run run-1, journal "+filepath.Join(out, "run-1", "journal.jsonl")+"\n") || !strings.Contains(text, "preflight\n") ||
		!strings.HasSuffix(text, "\nsquall: report: "+filepath.Join(out, "run-1", "report.json")+"\n") {
		t.Errorf("stderr %q", text)
	}
	if len(ended) != 1 || ended[0].Run != "run-1" || ended[0].Verdict != steadystate.Held {
		t.Errorf("ended %+v", ended)
	}
	if run, err := records.Read(filepath.Join(out, "run-1")); err != nil || run.Result == nil || run.Result.Verdict != steadystate.Held {
		t.Errorf("the journal: %+v, %v", run.Result, err)
	}
	for _, name := range []string{filepath.Join(out, "run-1", reports.FormatJSON.FileName()), summary} {
		if info, err := os.Stat(name); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunQuietly(t *testing.T) {
	var stdout, stderr strings.Builder
	s := session.Session{Directory: t.TempDir(), Quiet: true, Format: terminal.Text, Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }}
	if _, err := s.Run(t.Context(), &held{}, outage); err != nil || stdout.Len() == 0 || stderr.Len() > 0 {
		t.Errorf("%v: stdout %q, stderr %q", err, &stdout, &stderr)
	}
}

// A run that cannot be recorded does not start.
func TestNoJournalNoRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var r held
	result, err := session.Session{Directory: file, Stdout: &strings.Builder{}, Stderr: &strings.Builder{}}.Run(t.Context(), &r, outage)
	if err == nil || hint.Of(err) == "" || r.started || result.Status != "" {
		t.Errorf("started %t, result %+v, error %v", r.started, result, err)
	}
}
