package effect

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/telemetry"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Traffic is what a fault would do to the requests from one namespace to one host,
// in requests per second, averaged over a window.
type Traffic struct {
	// Window is the time over which the rates are averaged. It is the longest one that
	// was tried if there were no requests.
	Window time.Duration
	// Requests are all requests from the namespace to the host.
	Requests float64
	// Hit are those that the fault hits, and Failing those that fail because of it.
	Hit, Failing float64
	// NotGRPC are those that are not gRPC, if a fault aborts with a gRPC status: they
	// get 200 OK.
	NotGRPC float64
	// AtMost reports that Hit and Failing are upper bounds: the fault is limited by
	// something that istio_requests_total has no label for.
	AtMost bool
}

// ReadTraffic returns what the injections of a plan would do to the requests from
// a namespace to a host. It returns nil when Prometheus has no such series.
func ReadTraffic(ctx context.Context, q steadystate.Querier, injections experiments.Injections, host, callers string) (*Traffic, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	calls := []telemetry.Matcher{telemetry.BySource, telemetry.To(host), telemetry.From(callers)}
	var requests float64
	var window time.Duration
	for _, window = range windows() {
		measured, known, err := rate(ctx, q, calls, window)
		if err != nil || !known && window == LongestWindow {
			return nil, err
		}
		if requests = measured; requests > 0 {
			break
		}
	}
	peak := injections.Peak()
	traffic := &Traffic{
		Window: window, Requests: requests, Hit: requests * peak.Hit, Failing: requests * peak.Failing,
		AtMost: slices.ContainsFunc(injections, limited),
	}
	if slices.ContainsFunc(injections, experiments.Injection.AbortsGRPC) {
		var err error
		if traffic.NotGRPC, _, err = rate(ctx, q, append(calls, telemetry.NotGRPC, telemetry.NotAborted), window); err != nil {
			return nil, err
		}
	}
	return traffic, nil
}

// rate returns the requests per second of some calls, averaged over a window; known is
// false when Prometheus has no such series.
func rate(ctx context.Context, q steadystate.Querier, calls []telemetry.Matcher, window time.Duration) (perSecond float64, known bool, err error) {
	samples, err := q.Query(ctx, fmt.Sprintf("sum(rate(%s[%.0fm]))", telemetry.Selector(telemetry.Requests, calls...), window.Minutes()))
	if err != nil || len(samples) == 0 || math.IsNaN(samples[0].Value) || math.IsInf(samples[0].Value, 0) {
		return 0, false, err
	}
	return samples[0].Value, true, nil
}

// LongestWindow is the longest window of a rate.
const LongestWindow = 5 * time.Minute

// windows returns the windows of rates, in the order in which they are tried. A short one
// is right soon after the traffic has changed, but has too few samples if Prometheus
// scrapes every 30 seconds or less often, or if there are few requests.
func windows() []time.Duration { return []time.Duration{time.Minute, LongestWindow} }

// limited reports whether an injection is for a part of the requests that
// istio_requests_total cannot tell from the rest, because it has neither the pods'
// labels nor anything of a request, or for a part of the time.
func limited(i experiments.Injection) bool {
	return len(i.Match) > 0 || i.Target.Port != 0 || i.Target.Subset != "" ||
		!slices.ContainsFunc(i.Callers, func(c experiments.Caller) bool { return c.Gateway == nil && len(c.Labels) == 0 }) ||
		i.PartOfTheTime()
}
