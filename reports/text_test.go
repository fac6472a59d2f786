package reports_test

import (
	"flag"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// events writes a journal that begins with the usual events.
func events(t *testing.T, more ...event.Event) []journal.Line {
	t.Helper()
	loaded, err := files.Load("test.yaml", strings.NewReader(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: outage}
spec:
  title: The page survives
  target: {host: ratings, namespace: prod}
  callers: [{namespace: shop, labels: {app: reviews, version: v1}}, {namespace: backoffice}]
  faults: [{abort: {httpStatus: 503}, delay: {fixedDelay: 1s}, percentage: 50}]
  duration: 2m
  steadyState:
    probes:
    - {name: page answers, successRate: {destination: page.shop}, min: 0.99, maxDrop: 5%}
    - {name: page p99, latency: {destination: page.shop}, max: 800ms}
  stopConditions: [{name: no page, alerts: {severity: critical}}]
`))
	if err != nil {
		t.Fatal(err)
	}
	inForce := "prod/ratings"
	all := []event.Event{
		event.Started{Run: objects.Run{ID: "20260102-030405-outage-abcdef"}, Experiment: loaded[0]},
		event.Planned{Plan: mesh.Plan{Experiment: "outage", Decisions: []mesh.Decision{
			{Host: "ratings.prod.svc.cluster.local", Callers: "shop", Effective: &inForce, Placement: mesh.Shadow, Reason: "shadow in shop, outranks prod/ratings (public)"},
		}}},
	}
	var lines []journal.Line
	for i, e := range append(all, more...) {
		line, err := event.Encode(start.Add(time.Duration(i)*time.Second), e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

func measured(probe string, phase experiments.Phase, value float64, verdict steadystate.Verdict) event.Measured {
	return event.Measured{Measurement: steadystate.Measurement{Probe: probe, Phase: phase, Time: start, Value: &value, Verdict: verdict}}
}

// wholeRun writes a journal with every kind of event, with special characters of
// HTML, XML and Markdown.
func wholeRun(t *testing.T) []journal.Line {
	t.Helper()
	shadow := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": map[string]any{"namespace": "shop", "name": "squall-ratings-abcdef01"},
		"spec": map[string]any{"hosts": []any{"<b>ratings</b>"}},
	}}
	at := func(second int, probe string, phase experiments.Phase, value float64, verdict steadystate.Verdict, reason string) event.Measured {
		m := measured(probe, phase, value, verdict)
		m.Time, m.Reason = start.Add(time.Duration(second)*time.Second), reason
		return m
	}
	return events(
		t,
		event.Phase{Name: event.PhaseBaseline}, at(2, "page p99", experiments.Before, 20, steadystate.Held, ""), at(3, "page p99", experiments.Before, 21, steadystate.Held, ""),
		event.Phase{Name: event.PhaseInject}, event.Creating{Object: shadow}, event.Created{Ref: objects.RefTo(shadow)},
		event.Phase{Name: event.PhaseObserve}, at(8, "page p99", experiments.During, 700, steadystate.Held, ""), at(9, "page p99", experiments.During, 900, steadystate.Deviated, "900 is above 800 <script>alert(1)</script> | `x`"),
		event.Phase{Name: event.PhaseRollback, Reason: "page p99: 900 is above 800"}, event.Deleted{Object: objects.RefTo(shadow)},
		event.Phase{Name: event.PhaseRecover}, at(14, "page p99", experiments.After, 30, steadystate.Held, ""),
		event.Effect{Query: `sum(istio_requests_total{a="b"}) > 0`, Requests: 12, Verdict: steadystate.Held},
		event.Finished{Result: event.Result{Status: event.StatusStopped, Verdict: steadystate.Deviated, Reason: "page p99: 900 is above 800 <script>alert(1)</script> | `x`", Findings: []steadystate.Finding{
			{Probe: "page p99", Phase: experiments.During, Verdict: steadystate.Deviated, Reason: "900 is above 800 <script>alert(1)</script> | `x`"},
		}}},
	)
}

func TestReports(t *testing.T) {
	seconds := func(n float64) experiments.Duration {
		return experiments.Duration{Duration: time.Duration(n * float64(time.Second))}
	}
	for name, journaled := range map[string][]journal.Line{
		"held": events(
			t, measured("page answers", experiments.Before, 1, steadystate.Held), measured("page p99", experiments.Before, 12.3456, steadystate.Held),
			measured("page answers", experiments.During, 0.995, steadystate.Held), measured("no page", experiments.During, 0, steadystate.Held),
			event.Effect{Requests: 731.4, Complete: true, Verdict: steadystate.Held, Share: &event.Share{Wanted: 0.5, Achieved: 0.503, Requests: 1450}},
			event.Finished{Result: event.Result{Status: event.StatusCompleted, Verdict: steadystate.Held, Injected: seconds(120.004), Rollback: seconds(0.009), Findings: []steadystate.Finding{
				{Probe: "page answers", Phase: experiments.Before}, {Probe: "page p99", Phase: experiments.Before}, {Probe: "page answers", Phase: experiments.During}, {Probe: "no page", Phase: experiments.During},
			}}},
		),
		"deviated": events(
			t, measured("page p99", experiments.During, 900, steadystate.Held), measured("page p99", experiments.During, 4961, steadystate.Deviated),
			event.Measured{Measurement: steadystate.Measurement{Probe: "page answers", Phase: experiments.During, Verdict: steadystate.Inconclusive, Reason: "no series"}},
			event.Effect{Requests: 200, Verdict: steadystate.Held, NoShare: "istio_requests_total does not tell which requests match"},
			event.Finished{Result: event.Result{Status: event.StatusStopped, Verdict: steadystate.Deviated, Reason: "page p99: 4961 is above 800", Injected: seconds(4), Rollback: seconds(0.01), Recovery: seconds(8), Findings: []steadystate.Finding{
				{Probe: "page p99", Phase: experiments.During, Verdict: steadystate.Deviated, Reason: "4961 is above 800"},
				{Probe: "page answers", Phase: experiments.After, Verdict: steadystate.Inconclusive, Reason: "was never measured"},
			}}},
		),
		"left": events(t, event.Finished{Result: event.Result{
			Status: event.StatusInterrupted, Verdict: steadystate.Inconclusive, Reason: "interrupt signal received", Injected: seconds(4), Rollback: seconds(30),
			Left: []objects.Left{{Ref: objects.Ref{Kind: "VirtualService", Namespace: "shop", Name: "squall-ratings-abcdef01"}}},
		}}),
		"held-left": events(t, event.Finished{Result: event.Result{
			Status: event.StatusCompleted, Verdict: steadystate.Held, Injected: seconds(120), Rollback: seconds(30),
			Left: []objects.Left{{Ref: objects.Ref{Kind: "VirtualService", Namespace: "shop", Name: "squall-ratings-abcdef01"}}},
		}}),
		"refused":   events(t, event.Finished{Result: event.Result{Status: event.StatusRefused, Verdict: steadystate.Inconclusive, Reason: "the mesh knows no host", Hint: "check the spelling"}}),
		"whole":     wholeRun(t),
		"cut-short": events(t, measured("page answers", experiments.Before, 1, steadystate.Held)),
	} {
		t.Run(name, func(t *testing.T) {
			run, err := reports.Fold(journaled)
			if err != nil {
				t.Fatal(err)
			}
			for _, format := range reports.Formats() {
				checkGolden(t, name, format, run)
			}
		})
	}
}

// checkGolden compares a report with the golden file of its form.
func checkGolden(t *testing.T, name string, format reports.Format, run reports.Run) {
	t.Helper()
	var got strings.Builder
	if err := reports.Write(&got, format, run); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, name+"-"+format.FileName(), got.String())
}

func TestFoldRefusesJunk(t *testing.T) {
	all := events(t)
	all[1].Data = []byte(`{"decisions": 7}`)
	if _, err := reports.Fold(all); err == nil || !strings.Contains(err.Error(), "event 2 (planned)") {
		t.Errorf("error %v", err)
	}
}
