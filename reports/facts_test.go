package reports_test

import (
	"strings"
	"testing"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// A hit that is a success for its caller, and connections that are closed after the
// rollback, have lines in a report.
func TestFactsAboutCallers(t *testing.T) {
	run, err := reports.Fold(events(
		t, event.Clean{State: event.CleanSeen, Calls: 12, After: experiments.Duration{Duration: 2 * time.Second}, Closes: experiments.Duration{Duration: 45 * time.Second}, Awaited: true},
		event.Effect{Requests: 731, AnsweredOK: 700, Complete: true, Verdict: steadystate.Held},
		event.Finished{Result: event.Result{Status: event.StatusCompleted, Verdict: steadystate.Held}},
	))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := reports.Text(&text, run); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"  proxies    clean after 2s: 12 calls without a hit; the TCP and TLS connections that were open at the rollback were closed 45s after it\n",
		"  hit        731 requests\n",
		"  200 OK     at least 700 requests hit got 200 OK, because their callers do not speak gRPC: use httpStatus, which gRPC callers see as a status too\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no line %q in:\n%s", want, &text)
		}
	}
}
