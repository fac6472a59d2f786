package reports

import (
	"fmt"
	"math"
	"slices"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// fact is one line of a summary.
type fact struct{ Name, Value string }

// Outcome returns the verdict in a word or two, with the status if the run did not
// complete, and with a remark if objects are left behind.
func (r Run) Outcome() string {
	if r.Result == nil {
		return stateUnfinished + ": " + cutShort
	}
	words := r.Result.Verdict.String()
	if r.Result.Status != event.StatusCompleted {
		words += fmt.Sprintf(" (%s)", r.Result.Status)
	}
	if len(r.Result.Left) > 0 {
		words += ", objects left behind"
	}
	if r.Result.StillHit {
		words += ", proxies still inject"
	}
	return words
}

// facts returns the lines of every summary, in their order.
func (r Run) facts() []fact {
	var facts []fact
	add := func(name, format string, args ...any) {
		facts = append(facts, fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	if r.Result != nil && r.Result.Reason != "" {
		add("reason", "%s", r.Result.Reason)
	}
	if r.Result != nil && r.Result.Hint != "" {
		add("hint", "%s", r.Result.Hint)
	}
	for i, f := range r.Experiment.Spec.Faults {
		add("fault", "%s", words.FaultOf(r.decisionFor(i), f))
	}
	for _, calls := range r.calls() {
		add("calls", "%s", calls)
	}
	for _, d := range r.Plan.Decisions {
		if d.Placement != mesh.Refused {
			add("placement", "%s", d.Reason)
			if d.Closes != nil {
				add("closes", "%s", words.Closes(*d.Closes))
			}
		}
	}
	for _, warning := range r.Warnings {
		add("warning", "%s", warning)
	}
	if r.WithoutHeartbeat {
		add("heartbeat", "off, as configured: the fault would have stayed if Squall had died")
	}
	if result := r.Result; result != nil {
		if result.Injected.Duration > 0 || result.InjectedMost.Duration > 0 {
			add("active", "%s of %s, rolled back in %s", words.Active(*result), r.Experiment.Spec.Duration, result.Rollback)
		}
		if r.Clean != nil {
			add("proxies", "%s", words.Clean(*r.Clean))
		}
		if r.Effect != nil {
			add("hit", "%s", words.Hit(*r.Effect))
			if r.Effect.AnsweredOK > 0 {
				add("200 OK", "%s", words.AnsweredOK(*r.Effect))
			}
			if r.Effect.Share != nil {
				add("share", "%s", words.Share(*r.Effect.Share))
			}
		}
		if result.Recovery.Duration > 0 {
			add("recovered", "%s after rollback", result.Recovery)
		}
		for _, left := range result.Left {
			add("LEFT BEHIND", "%s; remove it: %s", describeLeft(left), left.Removal())
		}
	}
	add("run", "%s", r.Run.ID)
	return facts
}

// decisionFor returns a decision for the fault of a number. A journal does not have
// the faults of each decision, but they have the target in common: the first decision
// for its host counts.
func (r Run) decisionFor(fault int) mesh.Decision {
	spec := r.Experiment.Spec
	for _, i := range spec.Injections() {
		for _, d := range r.Plan.Decisions {
			if i.Number == fault && slices.Contains(i.Host().Spellings(), d.Host) {
				return d
			}
		}
	}
	return mesh.Decision{}
}

// describeLeft returns an object that was left, with what keeps it.
func describeLeft(left objects.Left) string {
	if why := left.Explanation(); why != "" {
		return left.String() + ", " + why
	}
	return left.String()
}

// judgement is the result of one probe in one phase.
type judgement struct {
	Probe     string            `json:"probe"`
	Query     string            `json:"query,omitempty"`
	Tolerance string            `json:"tolerance"`
	Phase     experiments.Phase `json:"phase"`
	// Verdict is nil if the run ended before the phase did.
	Verdict *steadystate.Verdict `json:"verdict,omitempty"`
	Reason  string               `json:"reason,omitempty"`
	// Lowest, Highest and Last are the values as text, or - without a value.
	Lowest  string `json:"lowest"`
	Highest string `json:"highest"`
	Last    string `json:"last"`
	Count   int    `json:"count"`

	measurements []steadystate.Measurement
	// missing is why the last measurement has no value; empty if it has one.
	missing string
}

func (j judgement) verdict() string {
	if j.Verdict == nil {
		return "-"
	}
	return j.Verdict.String()
}

// judgements returns every probe and phase that was measured or judged, in the
// order of the experiment file.
func (r Run) judgements() []judgement {
	type place struct {
		probe string
		phase experiments.Phase
	}
	measured, found := map[place][]steadystate.Measurement{}, map[place]steadystate.Finding{}
	for _, m := range r.Measurements {
		at := place{probe: m.Probe, phase: m.Phase}
		measured[at] = append(measured[at], m)
	}
	if r.Result != nil {
		for _, f := range r.Result.Findings {
			found[place{probe: f.Probe, phase: f.Phase}] = f
		}
	}
	var all []judgement
	for _, probe := range r.Experiment.Spec.Measured() {
		for _, phase := range []experiments.Phase{experiments.Before, experiments.During, experiments.After} {
			j := judgement{Probe: probe.Name, Query: r.Queries[probe.Name], Tolerance: words.Tolerance(probe), Phase: phase, Lowest: "-", Highest: "-", Last: "-"}
			if f, judged := found[place{probe: probe.Name, phase: phase}]; judged {
				j.Verdict, j.Reason = &f.Verdict, f.Reason
			}
			j.summarize(measured[place{probe: probe.Name, phase: phase}])
			if j.Count > 0 || j.Verdict != nil {
				all = append(all, j)
			}
		}
	}
	return all
}

// summarize adds the measurements of the probe in the phase.
func (j *judgement) summarize(measurements []steadystate.Measurement) {
	low, high := math.Inf(1), math.Inf(-1)
	j.measurements, j.Count = measurements, len(measurements)
	for _, m := range measurements {
		j.missing = ""
		if m.Value == nil {
			j.Last, j.missing = m.Reason, m.Reason
			continue
		}
		low, high = math.Min(low, *m.Value), math.Max(high, *m.Value)
		j.Lowest, j.Highest, j.Last = steadystate.FormatValue(low), steadystate.FormatValue(high), steadystate.FormatValue(*m.Value)
	}
}
