package experiments

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/istio/telemetry"
)

// PromQL returns the expression to evaluate: the query, or the query of a built-in
// measure.
func (m Measure) PromQL() string {
	switch {
	case m.SuccessRate != nil:
		all := []telemetry.Matcher{telemetry.BySource, destination(m.SuccessRate.Destination)}
		// To callers, injected aborts are failures.
		good := slices.Concat(all, []telemetry.Matcher{telemetry.Succeeded, telemetry.GRPCSucceeded, telemetry.NotAborted})
		if m.SuccessRate.ExcludeInjected {
			all = append(all, telemetry.NotAborted)
		}
		window := promDuration(m.SuccessRate.Window)
		// Where nothing succeeds there may be no series of successes.
		return fmt.Sprintf("(sum(rate(%s[%s])) or vector(0)) / sum(rate(%s[%s]))",
			telemetry.Selector(telemetry.Requests, good...), window, telemetry.Selector(telemetry.Requests, all...), window)
	case m.Latency != nil:
		selector := telemetry.Selector(telemetry.RequestDuration, telemetry.BySource, destination(m.Latency.Destination))
		return fmt.Sprintf("histogram_quantile(%v, sum by (le) (rate(%s[%s])))", m.Latency.Quantile, selector, promDuration(m.Latency.Window))
	case m.RequestRate != nil:
		selector := telemetry.Selector(telemetry.Requests, telemetry.BySource, destination(m.RequestRate.Destination))
		return fmt.Sprintf("sum(rate(%s[%s]))", selector, promDuration(m.RequestRate.Window))
	default:
		return m.Query
	}
}

// destination selects the calls to a host, and those to it that a fault diverts;
// name.namespace is a Kubernetes Service.
func destination(name string) telemetry.Matcher {
	return telemetry.To(host.Parse(name, "").Complete(host.DefaultDomain))
}

func promDuration(d Duration) string {
	return model.Duration(cmp.Or(d.Duration, DefaultWindow).Round(time.Millisecond)).String()
}

// Probe returns a stop condition as a probe: judged before the fault and while it is
// active, and no miss is tolerated. Firing alerts are counted; 0 is healthy.
func (s StopCondition) Probe() Probe {
	p := Probe{Name: s.Name, Measure: s.Measure, Min: s.Min, Max: s.Max, NoData: s.NoData, Phases: []Phase{Before, During}}
	if s.Alerts == nil {
		return p
	}
	selectors := []string{`alertstate="firing"`}
	for name, value := range s.Alerts {
		selectors = append(selectors, fmt.Sprintf("%s=%q", name, value))
	}
	slices.Sort(selectors)
	p.Query = fmt.Sprintf("count(ALERTS{%s}) or vector(0)", strings.Join(selectors, ","))
	p.Max, p.Alerts = Number(0), s.Alerts
	return p
}

// Measured returns everything that is measured: the probes, and the stop conditions
// as probes.
func (s Spec) Measured() []Probe {
	measured := slices.Clone(s.SteadyState.Probes)
	for _, c := range s.StopConditions {
		measured = append(measured, c.Probe())
	}
	return measured
}
