package files

import (
	"cmp"

	"github.com/squall-chaos/squall/experiments"
)

// setDefaults fills in omitted fields whose defaults depend on other fields.
func setDefaults(e *experiments.Experiment) {
	for i := range e.Spec.Faults {
		f := &e.Spec.Faults[i]
		if f.Blackhole != nil && f.Percentage == nil {
			all := experiments.Percentage(100)
			f.Percentage = &all
		}
	}
	s := &e.Spec.SteadyState
	if len(s.Probes) > 0 {
		s.Before.Duration = cmp.Or(s.Before.Duration, experiments.DefaultBaselineSamples*s.Interval.Duration)
	}
	for i := range s.Probes {
		p := &s.Probes[i]
		if p.Phases == nil {
			p.Phases = []experiments.Phase{experiments.Before, experiments.During, experiments.After}
		}
		p.NoData = cmp.Or(p.NoData, experiments.NoDataInconclusive)
		setMeasureDefaults(&p.Measure)
	}
	for i := range e.Spec.StopConditions {
		c := &e.Spec.StopConditions[i]
		c.NoData = cmp.Or(c.NoData, experiments.NoDataInconclusive)
		setMeasureDefaults(&c.Measure)
	}
	if c := e.Spec.Schedule; c != nil {
		c.TimeZone = cmp.Or(c.TimeZone, experiments.DefaultTimeZone)
		c.ConcurrencyPolicy = cmp.Or(c.ConcurrencyPolicy, experiments.Forbid)
		c.StartingDeadline.Duration = cmp.Or(c.StartingDeadline.Duration, experiments.DefaultStartingDeadline)
	}
}

// setMeasureDefaults fills in the omitted fields of a measure.
func setMeasureDefaults(m *experiments.Measure) {
	if m.SuccessRate != nil {
		m.SuccessRate.Window.Duration = cmp.Or(m.SuccessRate.Window.Duration, experiments.DefaultWindow)
	}
	if m.Latency != nil {
		m.Latency.Window.Duration = cmp.Or(m.Latency.Window.Duration, experiments.DefaultWindow)
		m.Latency.Quantile = cmp.Or(m.Latency.Quantile, experiments.DefaultQuantile)
	}
	if m.RequestRate != nil {
		m.RequestRate.Window.Duration = cmp.Or(m.RequestRate.Window.Duration, experiments.DefaultWindow)
	}
}
