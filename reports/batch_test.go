package reports_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

func TestWriteBatch(t *testing.T) {
	hit := 252.0
	var out strings.Builder
	err := reports.WriteBatch(&out, []reports.Summary{
		{Run: "b", Experiment: "ratings-outage", Status: event.StatusCompleted, Verdict: steadystate.Held, Injected: experiments.Duration{Duration: 30 * time.Second}, Requests: &hit},
		{Run: "a", Experiment: "details-delay\x1b", Status: event.StatusRefused, Verdict: steadystate.Inconclusive},
	})
	const want = `EXPERIMENT      VERDICT       STATUS     ACTIVE  HIT
ratings-outage  held          completed  30s     252
details-delay   inconclusive  refused    -       -

2 runs: 1 held, 1 inconclusive
`
	if diff := cmp.Diff(want, out.String()); err != nil || diff != "" {
		t.Errorf("%v%s", err, diff)
	}
}

// Two journals in one file are not a run.
func TestFoldOfTwoJournals(t *testing.T) {
	lines := events(t)
	if _, err := reports.Fold(append(lines, lines...)); err == nil || !strings.Contains(err.Error(), "another run begins here") {
		t.Errorf("two journals: %v", err)
	}
	if _, err := reports.Fold(lines); err != nil {
		t.Error(err)
	}
}
