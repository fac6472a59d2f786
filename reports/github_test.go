package reports_test

import (
	"strings"
	"testing"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

func TestAnnotation(t *testing.T) {
	left := []objects.Left{{Ref: objects.Ref{Kind: "VirtualService", Namespace: "shop", Name: "a"}}}
	for _, test := range []struct {
		result *event.Result
		want   string
	}{
		{&event.Result{Status: event.StatusCompleted, Verdict: steadystate.Held}, "::notice title=squall outage::held\n"},
		{&event.Result{Status: event.StatusCompleted, Verdict: steadystate.Held, Left: left}, "::error title=squall outage::held, objects left behind\n"},
		{&event.Result{Status: event.StatusInterrupted, Verdict: steadystate.Inconclusive, Reason: "ctrl-c", Left: left}, "::error title=squall outage::inconclusive (interrupted), objects left behind: ctrl-c\n"},
		{&event.Result{Status: event.StatusInterrupted, Verdict: steadystate.Held}, "::warning title=squall outage::held (interrupted)\n"},
		{&event.Result{Status: event.StatusStopped, Verdict: steadystate.Deviated, Reason: "1\n::error::2"}, "::error title=squall outage::deviated (stopped): 1%0A::error::2\n"},
		{nil, "::warning title=squall outage::unfinished: the journal ends before the end of the run\n"},
	} {
		run := reports.Run{Result: test.result}
		run.Experiment.Metadata.Name = "outage"
		var got strings.Builder
		if err := reports.Annotation(&got, run); err != nil {
			t.Fatal(err)
		}
		if got.String() != test.want {
			t.Errorf("%q instead of %q", &got, test.want)
		}
	}
}
