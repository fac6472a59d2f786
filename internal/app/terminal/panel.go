package terminal

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// panel is the state of a run: its phase, its probes, and the requests hit.
type panel struct {
	colour bool
	phase  event.Phase
	began  time.Time
	probes []*gauge
	// counting is whether the run counts the requests that its fault hits.
	counting bool
	hit      *event.Counted
	// alone is whether no heartbeat would remove the fault. interrupted is when a
	// signal has ended the run.
	alone       bool
	interrupted time.Time
	header      string
}

// gauge is one probe and its last measurements.
type gauge struct {
	name, tolerance string
	points          []point
	note            string
}

// point is one measurement of a probe. The value is NaN if there is none.
type point struct {
	value   float64
	verdict steadystate.Verdict
}

// maxPoints is the length of the longest sparkline.
const maxPoints = 40

// add adds an event.
func (p *panel) add(h happening) {
	switch e := h.event.(type) {
	case nil:
		p.interrupted = h.at
	case event.Started:
		p.alone, p.header = e.WithoutHeartbeat, header(e.Experiment)
		p.counting = e.Experiment.Spec.Effect.MinRequests > 0
		for _, probe := range e.Experiment.Spec.Measured() {
			p.probes = append(p.probes, &gauge{name: oneline.Cell(probe.Name), tolerance: words.Tolerance(probe)})
		}
	case event.Phase:
		p.phase, p.began = e, h.at
	case event.Counted:
		p.hit = &e
	case event.Measured:
		for _, g := range p.probes {
			if g.name == oneline.Cell(e.Probe) {
				g.add(e.Measurement)
			}
		}
	case event.Planned, event.Creating, event.Created, event.Updating, event.Updated, event.UpdateFailed, event.Deleting, event.Deleted,
		event.HeartbeatFailed, event.Clean, event.Effect, event.Finished:
		// These scroll by above the panel.
	}
}

// add adds a measurement.
func (g *gauge) add(m steadystate.Measurement) {
	one := point{value: math.NaN(), verdict: m.Verdict}
	g.note = ""
	switch {
	case m.Settling:
		g.note = "settling"
	case m.Value == nil:
		g.note = oneline.Cell(m.Reason)
	case m.Verdict != steadystate.Held:
		g.note = m.Verdict.String()
	}
	if m.Value != nil {
		one.value = *m.Value
	}
	g.points = append(g.points, one)
	g.points = g.points[max(0, len(g.points)-maxPoints):]
}

// headerHeight is the height of the smallest terminal with a header.
const headerHeight = 24

// header returns the name of an experiment, its faults, and the calls that they disturb.
func header(e experiments.Experiment) string {
	var faults []string
	for _, f := range e.Spec.Faults {
		faults = append(faults, words.Fault(f))
	}
	if len(faults) == 0 {
		return ""
	}
	callers := cmp.Or(words.Callers(e.Spec.Callers), "all callers")
	return "  " + oneline.Cell(fmt.Sprintf("%s: %s; from %s to %s", e.Metadata.Name, strings.Join(faults, "; "), callers, e.Spec.Target.Host))
}

// view returns the lines of the panel for a terminal of that size.
func (p *panel) view(now time.Time, width, height int) []string {
	if p.phase.Name == "" {
		return nil
	}
	lines := []string{""}
	if height >= headerHeight && p.header != "" {
		lines = append(lines, p.header)
	}
	lines = append(lines, p.phaseLine(now, width))
	names := 0
	for _, g := range p.probes {
		names = max(names, widthOf(g.name))
	}
	names = min(names, max(12, width/3))
	// One line is for the cursor, and two are for the events above.
	room := max(1, height-len(lines)-4)
	for i, g := range p.probes {
		if i == room-1 && len(p.probes) > room {
			lines = append(lines, fmt.Sprintf("  and %d more", len(p.probes)-i))
			break
		}
		lines = append(lines, p.gaugeLine(g, names, width))
	}
	switch {
	case p.hit != nil:
		lines = append(lines, fmt.Sprintf("  %.0f requests hit", p.hit.Hit))
	case p.phase.Name == event.PhaseObserve && p.counting:
		lines = append(lines, "  no requests hit yet, according to Prometheus")
	}
	// A line that has scrolled off the screen cannot be erased.
	return lines[:min(len(lines), height-1)]
}

// The parts of a bar.
const (
	full, empty = "█", "░"
	longestBar  = 24
)

// phaseLine returns the name of the phase and a bar with the time left.
func (p *panel) phaseLine(now time.Time, width int) string {
	if !p.interrupted.IsZero() {
		return fmt.Sprintf("  %-9s %s: %s", event.PhaseRollback, seconds(max(0, now.Sub(p.interrupted))), againInWords(p.alone))
	}
	elapsed := max(0, now.Sub(p.began))
	length := p.phase.Length.Duration
	if length <= 0 {
		return fmt.Sprintf("  %-9s %s", p.phase.Name, seconds(elapsed))
	}
	left := max(0, length-elapsed)
	size := min(longestBar, max(0, width-50))
	done := min(size, int(float64(size)*float64(elapsed)/float64(length)))
	words := seconds(left) + " left"
	switch p.phase.Name {
	case event.PhaseObserve:
		words += ", Ctrl-C rolls back"
	case event.PhaseRecover:
		words = "at most " + words
	case event.PhasePreflight, event.PhaseBaseline, event.PhaseScrapes, event.PhaseInject, event.PhaseRollback, event.PhaseClean, event.PhaseClose, event.PhaseEffect:
	}
	return fmt.Sprintf("  %-9s %s%s %s", p.phase.Name, strings.Repeat(full, done), strings.Repeat(empty, size-done), words)
}

// seconds returns a duration as text, in whole seconds.
func seconds(d time.Duration) string { return d.Round(time.Second).String() }

// gaugeLine returns the name of a probe, a sparkline of its last measurements, the
// last value, and the tolerance.
func (p *panel) gaugeLine(g *gauge, names, width int) string {
	name := truncate(g.name, names)
	name += strings.Repeat(" ", names-widthOf(name))
	last := "-"
	if len(g.points) > 0 {
		if value := g.points[len(g.points)-1].value; !math.IsNaN(value) {
			last = steadystate.FormatValue(value)
		}
	}
	size := min(maxPoints, max(0, width-names-50))
	line := fmt.Sprintf("  %s %s %8s  %s", name, p.sparkline(g.points, size), last, g.tolerance)
	if g.note == "" {
		return line
	}
	return line + "  " + p.paint(g.points[len(g.points)-1].verdict, g.note)
}

var bars = []rune("▁▂▃▄▅▆▇█") //nolint:gochecknoglobals // a constant list

// sparkline draws the last measurements, scaled from the lowest to the highest of
// them. A measurement without a value is a dot.
func (p *panel) sparkline(points []point, size int) string {
	points = points[max(0, len(points)-size):]
	low, high := math.Inf(1), math.Inf(-1)
	for _, one := range points {
		if !math.IsNaN(one.value) {
			low, high = math.Min(low, one.value), math.Max(high, one.value)
		}
	}
	var drawn strings.Builder
	drawn.WriteString(strings.Repeat(" ", size-len(points)))
	alike := "" // the symbols of one verdict, not painted yet
	for i, one := range points {
		symbol := "·"
		switch {
		case math.IsNaN(one.value):
		case high > low:
			symbol = string(bars[int(between(low, one.value, high)*float64(len(bars)-1))])
		default:
			symbol = string(bars[len(bars)/2])
		}
		alike += symbol
		if i+1 == len(points) || points[i+1].verdict != one.verdict {
			drawn.WriteString(p.paint(one.verdict, alike))
			alike = ""
		}
	}
	return drawn.String()
}

// between returns the position of a value between two others, from 0 to 1.
func between(low, value, high float64) float64 {
	if math.IsInf(high-low, 0) {
		return (value/2 - low/2) / (high/2 - low/2)
	}
	return (value - low) / (high - low)
}

// paint returns text in the colour of a verdict.
func (p *panel) paint(verdict steadystate.Verdict, text string) string {
	if !p.colour {
		return text
	}
	colours := map[steadystate.Verdict]string{steadystate.Held: green, steadystate.Inconclusive: yellow, steadystate.Deviated: red}
	return colours[verdict] + text + plain
}
