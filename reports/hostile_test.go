package reports_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// recorder creates the events of a run for a test.
type recorder struct {
	t      *testing.T
	now    time.Time
	events []journal.Line
}

func (r *recorder) add(e event.Event) {
	r.t.Helper()
	line, err := event.Encode(r.now, e)
	if err != nil {
		r.t.Fatal(err)
	}
	r.events = append(r.events, line)
}

// begin records the start of a run of the experiment.
func begin(t *testing.T, file string) (*recorder, experiments.Experiment) {
	t.Helper()
	loaded, err := files.Load("test.yaml", strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	queries := map[string]string{}
	for _, probe := range loaded[0].Spec.Measured() {
		queries[probe.Name] = `histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{reporter="source", destination_service="checkout.shop.svc.cluster.local"}[1m]))) > 0`
	}
	r.add(event.Started{
		Run:        objects.Run{ID: "20260102-030405-" + loaded[0].Metadata.Name + "-abcdef", Owner: "a user with  blanks@build-agent-17.internal.example.com"},
		Experiment: loaded[0], Version: "v1.2.3", Cluster: "https://" + strings.Repeat("0123456789abcdef", 4) + ".gr7.eu-central-1.eks.example.com:443",
		Prometheus: "https://prometheus.example.com/" + strings.Repeat("tenant/", 20), Queries: queries,
	})
	return r, loaded[0]
}

// nasty is a long text with special characters of HTML, XML, SVG and Markdown.
const nasty = `</script><img src="http://example.com/x.png" onerror="alert(1)"> ]]> &amp; | ` + "`x` \x00 \x1b[31m \u202eright to left"

// hostileFile is an experiment with the longest and strangest names.
var hostileFile = fmt.Sprintf(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: checkout-survives-a-payments-provider-that-is-slow}
spec:
  title: %[1]q
  description: %[2]q
  target: {host: payments-provider-gateway, namespace: payments-and-invoices-production}
  callers: [{namespace: shop-frontend-production, labels: {app: checkout, version: v2}}, {namespace: backoffice}]
  faults: [{abort: {httpStatus: 503}, delay: {fixedDelay: 1s}, percentage: 50}]
  duration: 2m
  steadyState:
    probes:
    - {name: checkout answers, query: a, min: 0.99, max: 1, maxDrop: 5%%}
    - {name: checkout p99 in ms, query: b, max: 800}
    - {name: %[1]q, query: c, min: -1e-9, max: 3e15}
    - {name: never measured, query: d, min: 1}
    - {name: queue, query: e, maxRise: 50%%}
    - {name: measured once, query: f, min: 5}
  stopConditions: [{name: nobody is paged, alerts: {severity: critical}}]
`, `<script>alert("title")</script> `+strings.Repeat("averylongwordwithoutblanks", 8), strings.Repeat(`<b>text</b> "of" many & long words. `, 12))

// value returns the values of the probes: steady, disturbed by the fault, and too
// large for an axis.
func value(probe int, second float64, disturbed bool) float64 {
	wave := math.Sin(second / 3)
	switch probe {
	case 0:
		if disturbed {
			return 0.97 + 0.02*wave
		}
		return 1
	case 1:
		if disturbed {
			return 700 + 300*wave
		}
		return 40 + 5*wave
	case 2:
		return 1.23456789e15 * (1 + wave/1e6)
	default:
		return 1000 + 50*wave
	}
}

// phase records a phase of the hostile run, with a measurement every three seconds.
func (r *recorder) phase(name event.PhaseName, measured experiments.Phase, times int, probes []experiments.Probe) {
	start := r.events[0].Time
	r.add(event.Phase{Name: name, Length: experiments.Duration{Duration: time.Duration(3*times) * time.Second}})
	for range times {
		for i, probe := range probes {
			if probe.Name == "never measured" || i > 4 {
				continue
			}
			m := steadystate.Measurement{Probe: probe.Name, Phase: measured, Time: r.now}
			if v := value(i, r.now.Sub(start).Seconds(), measured == experiments.During); i == 0 && r.now.Second()%10 == 0 {
				m.Verdict, m.Reason = steadystate.Inconclusive, "no series: "+nasty
			} else {
				m.Value = &v
			}
			if m.Value != nil && (i == 0 && *m.Value < 0.99 || i == 1 && *m.Value > 800) {
				m.Verdict, m.Reason = steadystate.Deviated, "outside of the tolerance"
			}
			r.add(event.Measured{Measurement: m})
		}
		r.now = r.now.Add(3 * time.Second)
	}
}

// TestHostileJournal writes the hostile run to a file, which the tests of the
// sandbox open in a browser.
func TestHostileJournal(t *testing.T) {
	var got bytes.Buffer
	for i, event := range hostile(t) {
		if i == 0 {
			event.Schema = journal.Schema
		}
		line, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(append(line, '\n'))
	}
	file := filepath.Join("testdata", "journals", "hostile.jsonl")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
	renders(t, want)
}

// hostile returns a run with every kind of content, long and hostile.
func hostile(t *testing.T) []journal.Line {
	t.Helper()
	r, experiment := begin(t, hostileFile)
	probes := experiment.Spec.Measured()
	shadow := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{"namespace": "shop-frontend-production", "name": "squall-payments-provider-gateway-0a1b2c3d"},
		"spec":     map[string]any{"hosts": []any{nasty}, "http": []any{map[string]any{"name": strings.Repeat("long", 60)}}},
	}}
	inForce := "payments-and-invoices-production/payments-provider-gateway"
	r.add(event.Phase{Name: event.PhasePreflight})
	r.add(event.Planned{Plan: mesh.Plan{
		Experiment: experiment.Metadata.Name,
		Decisions: []mesh.Decision{{
			Host: "payments-provider-gateway.payments-and-invoices-production.svc.cluster.local", Callers: "shop-frontend-production",
			Effective: &inForce, Placement: mesh.Shadow, Reason: "shadow in shop-frontend-production, outranks " + inForce + " (public)",
		}},
		Objects: []*unstructured.Unstructured{shadow},
	}})
	r.now = r.now.Add(30 * time.Millisecond)
	r.phase(event.PhaseBaseline, experiments.Before, 7, probes)
	one := 4.0
	r.add(event.Measured{Measurement: steadystate.Measurement{Probe: "measured once", Phase: experiments.Before, Time: r.now, Value: &one, Verdict: steadystate.Deviated, Reason: "4 is below 5"}})
	r.add(event.Phase{Name: event.PhaseInject})
	r.add(event.Creating{Object: shadow})
	r.add(event.Created{Ref: objects.RefTo(shadow)})
	r.now = r.now.Add(40 * time.Millisecond)
	r.phase(event.PhaseObserve, experiments.During, 30, probes)
	r.add(event.Phase{Name: event.PhaseRollback, Reason: nasty})
	r.add(event.Deleted{Object: objects.RefTo(shadow), Error: nasty})
	r.now = r.now.Add(25 * time.Millisecond)
	r.phase(event.PhaseRecover, experiments.After, 5, probes)
	r.add(event.Phase{Name: event.PhaseEffect})
	r.now = r.now.Add(5 * time.Millisecond)
	r.add(event.Effect{Query: nasty, Requests: 1234567, Verdict: steadystate.Inconclusive, Reason: nasty})
	var findings []steadystate.Finding
	for i, probe := range probes {
		findings = append(findings, steadystate.Finding{Probe: probe.Name, Phase: experiments.During, Verdict: steadystate.Verdict(i % 3), Reason: []string{"", nasty, "1000 is above 800"}[i%3]})
	}
	r.add(event.Finished{Result: event.Result{
		Status: event.StatusStopped, Verdict: steadystate.Deviated, Reason: "checkout p99 in ms: 1000 is above 800 " + nasty, Hint: nasty, Findings: findings,
		Injected: experiments.Duration{Duration: 90 * time.Second}, Rollback: experiments.Duration{Duration: 25 * time.Millisecond}, Recovery: experiments.Duration{Duration: 4 * time.Second},
		Left: []objects.Left{{Ref: objects.RefTo(shadow)}},
	}})
	return r.events
}

// Text from a server or a file is not a command for the terminal or for a CI
// system that reads commands at the beginning of lines.
func TestNothingCommandsATerminal(t *testing.T) {
	r := &recorder{t: t, events: hostile(t)}
	const commands = "\x1b[2J\u009b2J\r\n::stop-commands::x\u202e"
	r.add(event.Measured{Measurement: steadystate.Measurement{Probe: "queue", Phase: experiments.Before, Reason: commands}})
	r.add(event.Finished{Result: event.Result{Status: event.StatusRefused, Reason: commands, Hint: commands}})
	run, err := reports.Fold(r.events)
	if err != nil {
		t.Fatal(err)
	}
	run.Experiment.Spec.Title, run.Experiment.Spec.SteadyState.Probes[0].Name = "::stop-commands::x", "::error::y ##[error]z"
	run.Measurements = append(run.Measurements, steadystate.Measurement{Probe: "::error::y ##[error]z", Phase: experiments.Before})
	for _, format := range []reports.Format{reports.FormatText, reports.FormatMarkdown} {
		var one, list bytes.Buffer
		if err := errors.Join(reports.Write(&one, format, run), reports.WriteIndex(&list, format, []reports.Summary{reports.Summarize(run).WithSuite(run)})); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(one.String() + list.String()) {
			if line = strings.TrimSuffix(line, "\n"); line != oneline.Blanked(line) {
				t.Errorf("%s: %q", format, line)
			}
		}
	}
}

// A journal that another program has written may lack required fields.
func TestJournalFromElsewhere(t *testing.T) {
	events, err := journal.Read(strings.NewReader(`{"schema":1,"time":"2026-01-02T03:04:05Z","type":"started","data":{"run":{"id":"20260102-030405-a-abcdef"},"experiment":{"metadata":{"name":"a"},"spec":{"faults":[{"abort":{"httpStatus":503}},{"delay":null}],"steadyState":{"probes":[{"name":"x"}]},"stopConditions":[{}]}}}}
{"schema":1,"time":"2026-01-02T03:04:06Z","type":"planned","data":{"decisions":[{}],"objects":[null]}}
{"schema":1,"time":"2026-01-02T03:04:07Z","type":"measured","data":{"probe":"x"}}
{"schema":1,"time":"2026-01-02T03:04:08Z","type":"creating","data":{}}
{"schema":1,"time":"2026-01-02T03:04:08Z","type":"effect","data":{"share":{}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	run, err := reports.Fold(events)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range reports.Formats() {
		var one, list strings.Builder
		if err := errors.Join(reports.Write(&one, format, run), reports.WriteIndex(&list, format, []reports.Summary{reports.Summarize(run).WithSuite(run)})); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if format == reports.FormatText && !strings.Contains(one.String(), "fault      abort with HTTP 503\n") {
			t.Error(&one)
		}
	}
}
