package terminal

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// lines prints events, one per line.
type lines struct {
	out     io.Writer
	verbose bool
	began   time.Time
	// summary leaves out what the panel shows.
	summary bool
	probes  map[string]string // the tolerance of each probe, in words
	first   time.Duration     // time until the first fault starts
	hitting bool              // whether the first hit has been printed
	alone   bool              // whether no heartbeat would remove the fault
	after   bool              // whether a probe is judged after the fault
	missed  map[string]missed // by probe; empty in verbose output
}

// missed is the last line about a probe that did not hold, and how many others were left
// out since.
type missed struct {
	text  string
	phase experiments.Phase
	more  int
}

func (*lines) every() time.Duration { return 0 }
func (*lines) refresh(time.Time)    {}
func (*lines) finish()              {}

func (p *lines) paint(h happening) {
	line := func(format string, args ...any) {
		fmt.Fprintf(p.out, "%7.1fs  %s\n", h.at.Sub(p.began).Seconds(), oneline.Cell(fmt.Sprintf(format, args...)))
	}
	switch e := h.event.(type) {
	case nil:
		line("interrupted: rolling back; %s", againInWords(p.alone))
	case event.Started:
		p.start(e, line)
	case event.Planned:
		for _, decision := range e.Decisions {
			line("callers in %s: %s", decision.Callers, placementInWords(decision))
			if decision.Closes != nil {
				line("  %s", words.Closes(*decision.Closes))
			}
		}
		for _, warning := range e.Warnings {
			line("warning: %s", warning)
		}
	case event.Phase:
		line("%s", p.phaseInWords(e))
	case event.Measured:
		p.measured(e.Measurement, line)
	case event.Creating:
		line("  create %s", objects.RefTo(e.Object))
	case event.Created:
		p.done(e.Ref, line)
	case event.Updating:
		line("  update %s", objects.RefTo(e.Object))
	case event.Updated:
		p.done(e.Ref, line)
	case event.UpdateFailed:
		line("  %s could not be updated: %s", e.Object, e.Error)
	case event.Deleting:
		line("  delete %s of an earlier run", e.Ref)
	case event.Deleted:
		if e.Error != "" {
			line("  %s is still there: %s", e.Object, e.Error)
		} else {
			line("  %s is gone", e.Object)
		}
	case event.HeartbeatFailed:
		line("  heartbeat failed: %s", e.Error)
	case event.Counted:
		if e.Hit > 0 && !p.hitting {
			p.hitting = true
			line("  the fault hits requests")
		}
	case event.Effect:
		if p.verbose {
			line("  counted by %s", e.Query)
		}
		line("  hit: %s", words.Hit(e))
	case event.Clean:
		line("  proxies: %s", words.Clean(e))
	case event.Finished:
		// The summary on stdout shows it.
	}
}

// placementInWords returns the reason of a placement; the reason of a shadow names the
// placement.
func placementInWords(d mesh.Decision) string {
	if d.Placement == mesh.Shadow {
		return d.Reason
	}
	return fmt.Sprintf("%s: %s", d.Placement, d.Reason)
}

// againInWords returns what a second signal does.
func againInWords(withoutHeartbeat bool) string {
	if withoutHeartbeat {
		return "Ctrl-C again leaves the fault in the cluster"
	}
	return "Ctrl-C again leaves it to the cluster (20s)"
}

// start stores what later lines refer to.
func (p *lines) start(e event.Started, line func(format string, args ...any)) {
	p.probes, p.first, p.alone = map[string]string{}, e.Experiment.Spec.FirstStart(), e.WithoutHeartbeat
	for _, probe := range e.Experiment.Spec.Measured() {
		p.probes[probe.Name] = words.Tolerance(probe)
		p.after = p.after || probe.In(experiments.After)
	}
	if !p.verbose {
		return
	}
	line("cluster %s, Prometheus %s", e.Cluster, e.Prometheus)
	for _, name := range slices.Sorted(maps.Keys(e.Queries)) {
		line("  %s: %s", name, strings.Join(strings.Fields(e.Queries[name]), " "))
	}
}

func (p *lines) measured(m steadystate.Measurement, line func(format string, args ...any)) {
	if p.verbose {
		line("  the query took %.0f ms", m.Seconds*1000)
	}
	if text := p.folded(m); text != "" && (!p.summary || m.Verdict != steadystate.Held && !m.Settling) {
		line("  %s", text)
	}
}

// folded returns the line of a measurement. It is empty if the last line about the probe
// says the same, or says during the recovery that the probe does not hold yet.
func (p *lines) folded(m steadystate.Measurement) string {
	text := p.measurement(m)
	if p.verbose || m.Settling {
		return text
	}
	last, was := p.missed[m.Probe]
	if m.Verdict == steadystate.Held {
		delete(p.missed, m.Probe)
		if last.more > 0 {
			text += fmt.Sprintf(", after %d more that did not hold", last.more)
		}
		return text
	}
	if was && last.phase == m.Phase && (last.text == text || m.Phase == experiments.After) {
		last.more++
		p.missed[m.Probe] = last
		return ""
	}
	if p.missed == nil {
		p.missed = map[string]missed{}
	}
	p.missed[m.Probe] = missed{text: text, phase: m.Phase}
	return text
}

// done prints that a write to an object has succeeded.
func (p *lines) done(ref objects.Ref, line func(format string, args ...any)) {
	if p.verbose {
		line("  done: %s with uid %s", ref, ref.UID)
	}
}

// phaseInWords describes a phase.
func (p *lines) phaseInWords(phase event.Phase) string {
	words, first := string(phase.Name), p.first
	switch {
	case phase.Reason != "":
		words += ": " + phase.Reason
	case phase.Name == event.PhaseObserve && first > 0:
		words += fmt.Sprintf(" for %s: the first fault starts after %s; Ctrl-C rolls back", phase.Length, first)
	case phase.Name == event.PhaseObserve:
		words += fmt.Sprintf(": the fault is active for %s; Ctrl-C rolls back", phase.Length)
	case phase.Name == event.PhaseScrapes:
		words += ": waiting until Prometheus has scraped the callers' proxies twice, which must not inject a fault yet"
	case phase.Name == event.PhaseClean:
		words += ": waiting until Prometheus has scraped calls without a hit; calls may be hit for " + phase.Length.String()
	case phase.Name == event.PhaseClose:
		words += fmt.Sprintf(": for %s, until proxies have closed the connections that were open at the rollback", phase.Length.Round(time.Second))
	case phase.Name == event.PhaseRecover && !p.after:
		words += ": there is no probe to wait for"
	case phase.Name == event.PhaseRecover:
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
