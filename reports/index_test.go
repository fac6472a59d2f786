package reports_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// summaryOf folds a journal and shifts the start of its run by some hours.
func summaryOf(t *testing.T, journaled []journal.Line, hours int) reports.Summary {
	t.Helper()
	run, err := reports.Fold(journaled)
	if err != nil {
		t.Fatal(err)
	}
	summary := reports.Summarize(run).WithSuite(run)
	summary.Began = summary.Began.Add(time.Duration(hours) * time.Hour)
	return summary
}

func TestIndex(t *testing.T) {
	held := summaryOf(t, events(
		t, measured("page p99", experiments.During, 12, steadystate.Held), event.Effect{Requests: 731.4, Verdict: steadystate.Held},
		event.Finished{Result: event.Result{Status: event.StatusCompleted, Verdict: steadystate.Held, Injected: experiments.Duration{Duration: 2 * time.Minute}, Finished: start.Add(3 * time.Minute)}},
	), 0)
	held.Link = "with blank & 100%?/report.html"
	deviated := summaryOf(t, wholeRun(t), 2)
	deviated.Link = "javascript:alert(1)/journal.jsonl"
	left := summaryOf(t, events(t, event.Finished{Result: event.Result{
		Status: event.StatusInterrupted, Verdict: steadystate.Inconclusive, Reason: "interrupt signal received",
		Left: []objects.Left{{Ref: objects.Ref{Kind: "VirtualService", Namespace: "shop", Name: "squall-ratings-abcdef01"}}},
	}}), 1)
	for name, runs := range map[string][]reports.Summary{
		"none": nil,
		"index": {
			held,
			reports.Unreadable("20260102-050607-<i>-abcdef", errors.New("journal line 3: \x1b[31mno\tJSON\n")),
			deviated,
			reports.Unreadable("by hand", errors.New("journal: no event in it")),
			summaryOf(t, events(t), 3),
			left,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, format := range reports.Formats() {
				var got strings.Builder
				if err := reports.WriteIndex(&got, format, runs); err != nil {
					t.Fatal(err)
				}
				compareGolden(t, name+"-"+format.FileName(), got.String())
			}
		})
	}
}

// compareGolden compares a text with a golden file.
func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

// For any journals the text has a line for each run, the newest first.
func TestIndexIsSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var runs []reports.Summary
		for i, seconds := range rapid.SliceOf(rapid.IntRange(0, 100)).Draw(t, "seconds") {
			id := start.Add(time.Duration(seconds)*time.Second).Format(event.IDTime) + fmt.Sprintf("-%d", i)
			runs = append(runs, reports.Unreadable(id, errors.New(rapid.String().Draw(t, "error"))))
		}
		var got strings.Builder
		if err := reports.WriteIndex(&got, reports.FormatText, runs); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(got.String(), "\n")
		if len(lines) != len(runs)+4 {
			t.Fatalf("%d lines of %d runs", len(lines), len(runs))
		}
		for i := 2; i <= len(runs); i++ {
			if lines[i-1][:len(event.IDTime)] < lines[i][:len(event.IDTime)] {
				t.Errorf("%q stands before %q", lines[i-1], lines[i])
			}
		}
	})
}
