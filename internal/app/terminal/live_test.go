package terminal

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// happened returns events one second apart.
func happened(all ...event.Event) []happening {
	made := make([]happening, len(all))
	for i, e := range all {
		made[i] = happening{at: start.Add(time.Duration(i) * time.Second), event: e}
	}
	return made
}

func measuredAs(probe string, value float64, verdict steadystate.Verdict) event.Measured {
	return event.Measured{Measurement: steadystate.Measurement{Probe: probe, Phase: experiments.During, Value: &value, Verdict: verdict}}
}

func watched(t *testing.T) experiments.Experiment {
	t.Helper()
	loaded, err := files.Load("test.yaml", strings.NewReader(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: outage}
spec:
  target: {host: ratings, namespace: prod}
  callers: [{namespace: shop}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 2m
  steadyState:
    probes:
    - {name: page answers, successRate: {destination: page.shop}, min: 0.99}
    - {name: "ninety-nine of a hundred pages are quick enough", latency: {destination: page.shop}, max: 800ms}
    - {name: 注文が来る, query: orders, min: 1}
`))
	if err != nil {
		t.Fatal(err)
	}
	return loaded[0]
}

func TestPanel(t *testing.T) {
	all := happened(
		event.Started{Experiment: watched(t)}, event.Phase{Name: event.PhasePreflight},
		event.Phase{Name: event.PhaseObserve, Length: experiments.Duration{Duration: 2 * time.Minute}},
		measuredAs("page answers", 1, steadystate.Held), measuredAs("page answers", 0.995, steadystate.Held), measuredAs("page answers", 0.9, steadystate.Deviated),
		event.Measured{Measurement: steadystate.Measurement{Probe: "注文が来る", Reason: "no series", Verdict: steadystate.Inconclusive}},
		event.Counted{Requests: 1000, Hit: 512},
	)
	var p panel
	if got := p.view(start, 80, 24); got != nil {
		t.Errorf("before the start: %q", got)
	}
	for _, h := range all[:3] {
		p.add(h)
	}
	check := func(name string, width, height int, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, p.view(start.Add(32*time.Second), width, height)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	check("nothing measured yet", 80, 24,
		"", "  outage: abort with HTTP 503, 50 % of requests; from shop to ratings",
		"  observe   ██████░░░░░░░░░░░░░░░░░░ 1m30s left, Ctrl-C rolls back",
		"  page answers                           -  at least 0.99",
		"  ninety-nine of a hundred …             -  at most 800",
		"  注文が来る                             -  at least 1",
		"  no requests hit yet, according to Prometheus")
	for _, h := range all[3:] {
		p.add(h)
	}
	check("a while later", 80, 24,
		"", "  outage: abort with HTTP 503, 50 % of requests; from shop to ratings",
		"  observe   ██████░░░░░░░░░░░░░░░░░░ 1m30s left, Ctrl-C rolls back",
		"  page answers                █▇▁      0.9  at least 0.99  deviated",
		"  ninety-nine of a hundred …             -  at most 800",
		"  注文が来る                    ·        -  at least 1  no series",
		"  512 requests hit")
	check("a small terminal", 40, 8,
		"", "  observe    1m30s left, Ctrl-C rolls back",
		"  page answers        0.9  at least 0.99  deviated", "  and 2 more", "  512 requests hit")
	p.add(happened(event.Phase{Name: event.PhaseRecover, Length: experiments.Duration{Duration: time.Minute}})[0])
	if got := p.view(start.Add(time.Hour), 80, 24)[2]; !strings.Contains(got, "recover") || !strings.Contains(got, "at most 0s left") {
		t.Errorf("past its end: %q", got)
	}
}

// emulated is a terminal that understands the control sequences of a screen only.
type emulated struct {
	t      *testing.T
	rows   []string
	row    int
	frames int
}

func (e *emulated) Write(p []byte) (int, error) {
	text := string(p)
	if !strings.HasPrefix(text, beginFrame) || !strings.HasSuffix(text, endFrame) {
		e.t.Errorf("%q is not a whole frame", text)
	}
	e.frames++
	text = strings.TrimSuffix(strings.TrimPrefix(text, beginFrame), endFrame)
	column := 0
	for len(text) > 0 {
		var up, size int
		switch {
		case strings.HasPrefix(text, eraseRight):
			e.cut(column)
			text = text[len(eraseRight):]
		case strings.HasPrefix(text, eraseBelow):
			e.rows = e.rows[:min(len(e.rows), e.row)]
			text = text[len(eraseBelow):]
		case strings.HasPrefix(text, "\x1b["):
			if n, err := fmt.Sscanf(text, "\x1b[%dA%n", &up, &size); n != 1 && err != nil {
				e.t.Fatalf("%q is not understood", text)
			}
			e.row -= up
			text = text[strings.Index(text, "A")+1:]
		case text[0] == '\r':
			column, text = 0, text[1:]
		case text[0] == '\n':
			e.row, column, text = e.row+1, 0, text[1:]
		default:
			for len(e.rows) <= e.row {
				e.rows = append(e.rows, "")
			}
			e.rows[e.row] = e.rows[e.row][:min(column, len(e.rows[e.row]))] + text[:1] + e.rows[e.row][min(column+1, len(e.rows[e.row])):]
			column, text = column+1, text[1:]
		}
	}
	return len(p), nil
}

func (e *emulated) cut(column int) {
	for len(e.rows) <= e.row {
		e.rows = append(e.rows, "")
	}
	e.rows[e.row] = e.rows[e.row][:min(column, len(e.rows[e.row]))]
}

// Events scroll by above the panel, which is gone at the end.
func TestLive(t *testing.T) {
	terminal := &emulated{t: t}
	l := newLive(&lines{out: terminal, began: start}, func() (int, int) { return 60, 20 }, false)
	deviation := measuredAs("page answers", 0.5, steadystate.Deviated)
	deviation.Reason = "0.5 is below 0.99"
	for _, h := range happened(
		event.Started{Experiment: watched(t)}, event.Phase{Name: event.PhaseBaseline}, measuredAs("page answers", 1, steadystate.Held),
		event.Phase{Name: event.PhaseObserve, Length: experiments.Duration{Duration: time.Minute}}, measuredAs("page answers", 1, steadystate.Held), deviation,
	) {
		l.paint(h)
	}
	l.refresh(start.Add(10 * time.Second))
	want := []string{
		"    1.0s  baseline",
		"    3.0s  observe: the fault is active for 1m; Ctrl-C rolls back",
		"    5.0s    page answers: deviated: 0.5 is below 0.99",
		"",
		"  observe   █░░░░░░░░░ 53s left, Ctrl-C rolls back",
	}
	if diff := cmp.Diff(want, terminal.rows[:len(want)]); diff != "" || len(terminal.rows) != len(want)+4 {
		t.Errorf("%d rows: %s", len(terminal.rows), diff)
	}
	l.finish()
	if diff := cmp.Diff(want[:3], terminal.rows); diff != "" {
		t.Error(diff)
	}
	if terminal.frames != 8 {
		t.Errorf("%d frames", terminal.frames)
	}
}

// A terminal that has become narrower has wrapped the lines on it.
func TestScreenOfANarrowerTerminal(t *testing.T) {
	width := 40
	var out bytes.Buffer
	s := screen{out: &out, size: func() (int, int) { return width, 10 }}
	s.draw("", []string{strings.Repeat("x", 39), "", "short"})
	width = 20
	out.Reset()
	s.draw("", nil)
	if !strings.Contains(out.String(), cursorUp(4)) {
		t.Errorf("%q", out.String())
	}
}

func TestColourOfAVerdict(t *testing.T) {
	p := panel{colour: true}
	for verdict, want := range map[steadystate.Verdict]string{steadystate.Held: "\x1b[32mx\x1b[m", steadystate.Inconclusive: "\x1b[33mx\x1b[m", steadystate.Deviated: "\x1b[31mx\x1b[m"} {
		if got := p.paint(verdict, "x"); got != want {
			t.Errorf("%s: %q", verdict, got)
		}
	}
}

func TestNoFaultIsActiveBeforeItStarts(t *testing.T) {
	observe := event.Phase{Name: event.PhaseObserve, Length: experiments.Duration{Duration: time.Minute}}
	if got := (&lines{}).phaseInWords(observe); got != "observe: the fault is active for 1m; Ctrl-C rolls back" {
		t.Error(got)
	}
	if got := (&lines{first: 20 * time.Second}).phaseInWords(observe); got != "observe for 1m: the first fault starts after 20s; Ctrl-C rolls back" {
		t.Error(got)
	}
}

// A signal is shown at once, not when the rollback has deleted objects.
func TestInterrupted(t *testing.T) {
	for withoutHeartbeat, want := range map[bool]string{
		false: "Ctrl-C again leaves it to the cluster (20s)",
		true:  "Ctrl-C again leaves the fault in the cluster",
	} {
		var out bytes.Buffer
		text := &lines{out: &out, began: start}
		var p panel
		all := happened(event.Started{Experiment: watched(t), WithoutHeartbeat: withoutHeartbeat}, event.Phase{Name: event.PhaseObserve, Length: experiments.Duration{Duration: 2 * time.Minute}}, nil)
		for _, h := range all {
			text.paint(h)
			p.add(h)
		}
		if line := "    2.0s  interrupted: rolling back; " + want + "\n"; !strings.HasSuffix(out.String(), line) {
			t.Errorf("%q", &out)
		}
		if line := p.view(start.Add(3*time.Second), 80, 24)[2]; line != "  rollback  1s: "+want {
			t.Errorf("%q", line)
		}
	}
	jsonLines{out: failing{t}}.paint(happening{at: start})
}

// failing is a writer that is not to be used.
type failing struct{ t *testing.T }

func (f failing) Write(text []byte) (int, error) {
	f.t.Errorf("wrote %q", text)
	return len(text), nil
}

// Equal lines are printed once, and during the recovery one line is enough.
func TestMissesAreFolded(t *testing.T) {
	var out bytes.Buffer
	text := &lines{out: &out, began: start}
	missed := func(phase experiments.Phase, reason string) event.Measured {
		return event.Measured{Measurement: steadystate.Measurement{Probe: "page answers", Phase: phase, Verdict: steadystate.Inconclusive, Reason: reason}}
	}
	for _, h := range happened(
		event.Started{Experiment: watched(t)},
		missed(experiments.During, "no answer"), missed(experiments.During, "no answer"), missed(experiments.During, "no series"),
		missed(experiments.After, "no series"), missed(experiments.After, "NaN"), missed(experiments.After, "no series"), measuredAs("page answers", 1, steadystate.Held),
	) {
		text.paint(h)
	}
	const want = `    1.0s    page answers: inconclusive: no answer
    3.0s    page answers: inconclusive: no series
    4.0s    page answers: inconclusive: no series
    7.0s    page answers: 1 (at least 0.99), after 2 more that did not hold
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
