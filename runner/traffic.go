package runner

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/squall-chaos/squall/experiments"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Traffic is what a fault would do to the calls from one namespace, in requests
// per second, averaged over the last five minutes.
type Traffic struct {
	// Requests are all calls from the namespace to the host.
	Requests float64
	// Hit are those that the fault hits, and Failing those that it makes fail.
	Hit, Failing float64
	// AtMost tells that Hit and Failing are upper bounds: the fault is narrowed
	// by something that istio_requests_total has no label for.
	AtMost bool
}

// TrafficQuery is the PromQL that gives the requests per second from a
// namespace to a host, as the callers' side reports them.
func TrafficQuery(host, callers string) string {
	return fmt.Sprintf(`sum(rate(istio_requests_total{reporter=~"source|waypoint",destination_service=%q,source_workload_namespace=%q}[5m]))`, host, callers)
}

// ReadTraffic asks how many of the calls from a namespace to a host its
// injections would hit. It returns nil when there is no such series: there were no
// calls, or Prometheus does not know of them.
func ReadTraffic(ctx context.Context, q steadystate.Querier, injections experiments.Injections, host, callers string) (*Traffic, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	samples, err := q.Query(ctx, TrafficQuery(host, callers))
	if err != nil {
		return nil, err
	}
	if len(samples) == 0 || math.IsNaN(samples[0].Value) || math.IsInf(samples[0].Value, 0) {
		return nil, nil //nolint:nilnil // nothing is known, and nothing went wrong
	}
	requests := samples[0].Value
	peak := injections.Peak()
	return &Traffic{Requests: requests, Hit: requests * peak.Hit, Failing: requests * peak.Failing, AtMost: slices.ContainsFunc(injections, narrowed)}, nil
}

// narrowed reports whether an injection is for a part of the calls that
// istio_requests_total cannot tell from the rest, because it has neither the pods'
// labels nor anything of a request, or for a part of the time.
func narrowed(i experiments.Injection) bool {
	return len(i.Match) > 0 || i.Target.Port != 0 || i.Target.Subset != "" ||
		!slices.ContainsFunc(i.Callers, func(c experiments.Caller) bool { return len(c.Labels) == 0 }) ||
		i.PartOfTheTime()
}
