package terminal

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// lines prints what happens, one line each.
type lines struct {
	out     io.Writer
	verbose bool
	began   time.Time
	// summary leaves out what a picture shows.
	summary bool
	probes  map[string]string // the tolerance of each probe, in words
	first   time.Duration     // until the first fault starts
	hitting bool              // has been said
}

func (*lines) every() time.Duration { return 0 }
func (*lines) refresh(time.Time)    {}
func (*lines) finish()              {}

func (p *lines) paint(h happening) {
	line := func(format string, args ...any) {
		// The journal counts in milliseconds, so the first event may seem to
		// come before the beginning.
		fmt.Fprintf(p.out, "%7.1fs  %s\n", max(0, h.event.Time.Sub(p.began).Seconds()), reports.OneLine(fmt.Sprintf(format, args...)))
	}
	if p.verbose {
		p.printMore(h.data, line)
	}
	switch d := h.data.(type) {
	case runner.Started:
		p.probes, p.first = map[string]string{}, d.Experiment.Spec.FirstStart()
		for _, probe := range d.Experiment.Spec.Measured() {
			p.probes[probe.Name] = reports.ToleranceInWords(probe)
		}
	case mesh.Plan:
		for _, decision := range d.Decisions {
			line("callers in %s: %s: %s", decision.Callers, decision.Placement, decision.Reason)
		}
	case runner.Phase:
		line("%s", phaseInWords(d, p.first))
	case steadystate.Measurement:
		if !p.summary || d.Verdict != steadystate.Held && !d.Settling {
			line("  %s", p.measurement(d))
		}
	case runner.Change:
		verb := "create"
		if h.event.Type == runner.EventUpdating {
			verb = "update"
		}
		line("  %s %s", verb, mesh.RefTo(d.Object))
	case runner.Deletion:
		if d.Error != "" {
			line("  %s is still there: %s", d.Object, d.Error)
		} else {
			line("  %s is gone", d.Object)
		}
	case runner.Heartbeat:
		line("  heartbeat failed: %s", d.Error)
	case runner.Effect:
		line("  hit: %s", reports.HitInWords(d))
	case runner.Count:
		if d.Hit > 0 && !p.hitting {
			p.hitting = true
			line("  the fault hits requests")
		}
	}
}

// printMore prints what only a curious user wants to see.
func (p *lines) printMore(data any, line func(format string, args ...any)) {
	switch d := data.(type) {
	case runner.Started:
		line("cluster %s, Prometheus %s", d.Cluster, d.Prometheus)
		for _, name := range slices.Sorted(maps.Keys(d.Queries)) {
			line("  %s: %s", name, strings.Join(strings.Fields(d.Queries[name]), " "))
		}
	case mesh.Ref:
		line("  done: %s with uid %s", d, d.UID)
	case steadystate.Measurement:
		line("  the query took %.0f ms", d.Seconds*1000)
	case runner.Effect:
		line("  counted by %s", d.Query)
	}
}

// phaseInWords says what a phase does; the first fault starts so long after the
// observation does.
func phaseInWords(phase runner.Phase, first time.Duration) string {
	words := string(phase.Name)
	switch {
	case phase.Reason != "":
		words += ": " + phase.Reason
	case phase.Name == runner.PhaseObserve && first > 0:
		words += fmt.Sprintf(" for %s: the first fault starts after %s; Ctrl-C rolls back", phase.Length, first)
	case phase.Name == runner.PhaseObserve:
		words += fmt.Sprintf(": the fault is in force for %s; Ctrl-C rolls back", phase.Length)
	case phase.Name == runner.PhaseRecover:
		words += fmt.Sprintf(": the hypothesis must hold again within %s", phase.Length)
	case phase.Length.Duration > 0:
		words += " for " + phase.Length.String()
	}
	return words
}

func (p *lines) measurement(m steadystate.Measurement) string {
	value := "no value"
	if m.Value != nil {
		value = steadystate.FormatValue(*m.Value)
	}
	switch {
	case m.Settling:
		return fmt.Sprintf("%s: %s (settling, not judged)", m.Probe, value)
	case m.Verdict == steadystate.Held:
		return fmt.Sprintf("%s: %s (%s)", m.Probe, value, p.probes[m.Probe])
	default:
		return fmt.Sprintf("%s: %s: %s", m.Probe, m.Verdict, m.Reason)
	}
}
