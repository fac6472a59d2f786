package terminal

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// panel is how a run is doing.
type panel struct {
	colour bool
	phase  event.Phase
	began  time.Time
	probes []*gauge
	// counting tells that somebody counts the requests hit.
	counting bool
	hit      *event.Counted
}

// gauge is one probe.
type gauge struct {
	name, tolerance string
	points          []point
	note            string
}

// point is one measurement of a probe: NaN has no value.
type point struct {
	value   float64
	verdict steadystate.Verdict
}

// maxPoints is how many measurements a sparkline can show.
const maxPoints = 40

// take takes in an event.
func (p *panel) take(h happening) {
	switch e := h.event.(type) {
	case event.Started:
		p.counting = e.Experiment.Spec.Effect.MinRequests > 0
		for _, probe := range e.Experiment.Spec.Measured() {
			p.probes = append(p.probes, &gauge{name: reports.OneLine(probe.Name), tolerance: reports.ToleranceInWords(probe)})
		}
	case event.Phase:
		p.phase, p.began = e, h.at
	case event.Counted:
		p.hit = &e
	case event.Measured:
		for _, g := range p.probes {
			if g.name == reports.OneLine(e.Probe) {
				g.take(e.Measurement)
			}
		}
	case event.Planned, event.Creating, event.Created, event.Updating, event.Updated, event.UpdateFailed, event.Deleting, event.Deleted,
		event.HeartbeatFailed, event.Effect, event.Finished:
		// These scroll by above the panel.
	}
}

func (g *gauge) take(m steadystate.Measurement) {
	one := point{math.NaN(), m.Verdict}
	g.note = ""
	switch {
	case m.Settling:
		g.note = "settling"
	case m.Value == nil:
		g.note = reports.OneLine(m.Reason)
	case m.Verdict != steadystate.Held:
		g.note = m.Verdict.String()
	}
	if m.Value != nil {
		one.value = *m.Value
	}
	g.points = append(g.points, one)
	g.points = g.points[max(0, len(g.points)-maxPoints):]
}

// view gives the lines to show: the phase, the probes, the requests hit.
func (p *panel) view(now time.Time, width, height int) []string {
	if p.phase.Name == "" {
		return nil
	}
	lines := []string{"", p.phaseLine(now, width)}
	names := 0
	for _, g := range p.probes {
		names = max(names, widthOf(g.name))
	}
	names = min(names, max(12, width/3))
	// One line is the terminal's own, and two are for what scrolls by.
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
		lines = append(lines, "  no request hit yet, as far as Prometheus knows")
	}
	// Lines that have left a low terminal could not be erased any more.
	return lines[:min(len(lines), height-1)]
}

// The parts of a bar.
const (
	full, empty = "█", "░"
	longestBar  = 24
)

// phaseLine says where the run is, and how long the phase takes.
func (p *panel) phaseLine(now time.Time, width int) string {
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
	case event.PhasePreflight, event.PhaseBaseline, event.PhaseInject, event.PhaseRollback, event.PhaseEffect:
	}
	return fmt.Sprintf("  %-9s %s%s %s", p.phase.Name, strings.Repeat(full, done), strings.Repeat(empty, size-done), words)
}

// seconds writes a time that people see pass.
func seconds(d time.Duration) string { return d.Round(time.Second).String() }

// gaugeLine is a probe's name, its last measurements, the last of them, and what
// is healthy.
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

// sparkline draws the last measurements, the lowest and the highest of them at
// the edges; a dot has no value.
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
	alike := "" // symbols of one verdict that are not painted yet
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

// between gives where a value is between two others, from 0 to 1.
func between(low, value, high float64) float64 {
	if math.IsInf(high-low, 0) {
		return (value/2 - low/2) / (high/2 - low/2)
	}
	return (value - low) / (high - low)
}

// paint gives text the colour of a verdict.
func (p *panel) paint(verdict steadystate.Verdict, text string) string {
	if !p.colour {
		return text
	}
	colours := map[steadystate.Verdict]string{steadystate.Held: green, steadystate.Inconclusive: yellow, steadystate.Deviated: red}
	return colours[verdict] + text + plain
}
