package experiments

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// bySource selects what the callers' side reports: an aborted request never
// arrives, so the destination's own metrics do not know of it.
const bySource = `reporter=~"source|waypoint"`

// notInjected leaves out what a fault has aborted. Envoy lists the flags of a
// request with commas.
const notInjected = `response_flags!~"(.*,)?FI(,.*)?"`

// PromQL gives the expression to evaluate: the query, or what a built-in
// stands for.
func (m Measure) PromQL() string {
	switch {
	case m.SuccessRate != nil:
		all := []string{bySource, destination(m.SuccessRate.Destination)}
		// Injected aborts are failures to the callers; a gRPC one looks like
		// HTTP 200 in Istio's metrics.
		good := slices.Concat(all, []string{`response_code!~"5..|0"`, `grpc_response_status=~"0?"`, notInjected})
		if m.SuccessRate.ExcludeInjected {
			all = append(all, notInjected)
		}
		window := promDuration(m.SuccessRate.Window)
		// Where nothing succeeds there may be no series of successes.
		return fmt.Sprintf("(sum(rate(istio_requests_total{%s}[%s])) or vector(0)) / sum(rate(istio_requests_total{%s}[%s]))", strings.Join(good, ","), window, strings.Join(all, ","), window)
	case m.Latency != nil:
		return fmt.Sprintf("histogram_quantile(%v, sum by (le) (rate(istio_request_duration_milliseconds_bucket{%s,%s}[%s])))",
			m.Latency.Quantile, bySource, destination(m.Latency.Destination), promDuration(m.Latency.Window))
	case m.RequestRate != nil:
		return fmt.Sprintf("sum(rate(istio_requests_total{%s,%s}[%s]))", bySource, destination(m.RequestRate.Destination), promDuration(m.RequestRate.Window))
	default:
		return m.Query
	}
}

// destination selects a service by its host; name.namespace stands for a
// Kubernetes Service.
func destination(host string) string {
	switch {
	case strings.Count(host, ".") == 1:
		host += ".svc.cluster.local"
	case strings.HasSuffix(host, ".svc"):
		host += ".cluster.local"
	}
	return fmt.Sprintf("destination_service=%q", host)
}

func promDuration(d Duration) string {
	return model.Duration(cmp.Or(d.Duration, DefaultWindow).Round(time.Millisecond)).String()
}

// Probe gives the probe that a stop condition amounts to: judged before the
// fault and while it is in force, with no miss tolerated. Firing alerts are
// counted, and none is healthy.
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

// Measured gives everything that is measured: the probes, and the stop
// conditions as the probes that they amount to.
func (s Spec) Measured() []Probe {
	measured := slices.Clone(s.SteadyState.Probes)
	for _, c := range s.StopConditions {
		measured = append(measured, c.Probe())
	}
	return measured
}
