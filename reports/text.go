package reports

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Text writes a summary for people at a terminal, plain enough to paste into
// a chat.
func Text(w io.Writer, run Run) error {
	var b strings.Builder
	e := run.Experiment
	fmt.Fprintf(&b, "%s: %s\n", e.Metadata.Name, outcome(run.Result))
	if e.Spec.Title != "" {
		fmt.Fprintf(&b, "  %s\n", e.Spec.Title)
	}
	b.WriteString("\n")
	facts := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(facts, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	if run.Result != nil {
		if run.Result.Reason != "" {
			fact("reason", "%s", run.Result.Reason)
		}
		if run.Result.Hint != "" {
			fact("hint", "%s", run.Result.Hint)
		}
	}
	for _, f := range e.Spec.Faults {
		fact("fault", "%s", FaultInWords(f))
	}
	for _, calls := range run.calls() {
		fact("calls", "%s", calls)
	}
	for _, d := range run.Plan.Decisions {
		if d.Placement != mesh.Refused {
			fact("placement", "%s", d.Reason)
		}
	}
	if run.Result != nil {
		resultFacts(fact, run)
	}
	fact("run", "%s", run.Run.ID)
	if err := facts.Flush(); err != nil {
		return fmt.Errorf("text report: %w", err)
	}
	if err := probeTable(&b, run); err != nil {
		return err
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("text report: %w", err)
	}
	return nil
}

// outcome is the verdict, and how the run ended when it did not complete.
func outcome(result *runner.Result) string {
	switch {
	case result == nil:
		return "unfinished: the journal ends before the run does"
	case result.Status == runner.Completed:
		return result.Verdict.String()
	default:
		return fmt.Sprintf("%s (%s)", result.Verdict, result.Status)
	}
}

func resultFacts(fact func(name, format string, args ...any), run Run) {
	result := run.Result
	if result.Injected.Duration > 0 {
		fact("in force", "%s of %s, rolled back in %s", result.Injected, run.Experiment.Spec.Duration, result.Rollback)
	}
	if run.Effect != nil {
		fact("hit", "at least %.0f requests", math.Round(run.Effect.Requests))
	}
	if result.Recovery.Duration > 0 {
		fact("recovered", "%s after rollback", result.Recovery)
	}
	for _, ref := range result.Left {
		fact("LEFT BEHIND", "%s; remove it: %s", ref, ref.Removal())
	}
}

// probeTable writes a line for each probe and phase that was measured.
func probeTable(b *strings.Builder, run Run) error {
	if len(run.Measurements) == 0 {
		return nil
	}
	verdicts := map[string]steadystate.Verdict{}
	if run.Result != nil {
		for _, f := range run.Result.Findings {
			verdicts[f.Probe+"\x00"+string(f.Phase)] = f.Verdict
		}
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  PROBE\tTOLERANCE\tPHASE\tVERDICT\tLOWEST\tHIGHEST\tLAST\tMEASURED")
	for _, probe := range run.Experiment.Spec.Measured() {
		for _, phase := range []experiments.Phase{experiments.Before, experiments.During, experiments.After} {
			s := summarize(run.Measurements, probe.Name, phase)
			if s.count == 0 {
				continue
			}
			verdict := "-"
			if v, judged := verdicts[probe.Name+"\x00"+string(phase)]; judged {
				verdict = v.String()
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", probe.Name, ToleranceInWords(probe), phase, verdict, s.lowest, s.highest, s.last, s.count)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("text report: %w", err)
	}
	return nil
}

// summary is the range of a probe's values in one phase, as text.
type summary struct {
	lowest, highest, last string
	count                 int
}

func summarize(measurements []steadystate.Measurement, probe string, phase experiments.Phase) summary {
	low, high := math.Inf(1), math.Inf(-1)
	s := summary{lowest: "-", highest: "-", last: "-"}
	for _, m := range measurements {
		if m.Probe != probe || m.Phase != phase {
			continue
		}
		s.count++
		if m.Value == nil {
			s.last = m.Reason
			continue
		}
		low, high = math.Min(low, *m.Value), math.Max(high, *m.Value)
		s.lowest, s.highest, s.last = steadystate.FormatValue(low), steadystate.FormatValue(high), steadystate.FormatValue(*m.Value)
	}
	return s
}
