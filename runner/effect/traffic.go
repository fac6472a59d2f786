package effect

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/telemetry"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Traffic is what a fault would do to the requests from one namespace to one host,
// in requests per second, averaged over the last five minutes.
type Traffic struct {
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
	requests, known, err := rate(ctx, q, calls)
	if err != nil || !known {
		return nil, err
	}
	peak := injections.Peak()
	traffic := &Traffic{
		Requests: requests, Hit: requests * peak.Hit, Failing: requests * peak.Failing,
		AtMost: slices.ContainsFunc(injections, limited),
	}
	if slices.ContainsFunc(injections, func(i experiments.Injection) bool { return i.Fault.Abort != nil && i.Fault.Abort.GRPCStatus != "" }) {
		traffic.NotGRPC, _, err = rate(ctx, q, append(calls, telemetry.NotGRPC, telemetry.NotAborted))
	}
	return traffic, err
}

// rate returns the requests per second of some calls, averaged over the last five
// minutes; known is false when Prometheus has no such series.
func rate(ctx context.Context, q steadystate.Querier, calls []telemetry.Matcher) (perSecond float64, known bool, err error) {
	samples, err := q.Query(ctx, "sum(rate("+telemetry.Selector(telemetry.Requests, calls...)+"[5m]))")
	if err != nil || len(samples) == 0 || math.IsNaN(samples[0].Value) || math.IsInf(samples[0].Value, 0) {
		return 0, false, err
	}
	return samples[0].Value, true, nil
}

// limited reports whether an injection is for a part of the requests that
// istio_requests_total cannot tell from the rest, because it has neither the pods'
// labels nor anything of a request, or for a part of the time.
func limited(i experiments.Injection) bool {
	return len(i.Match) > 0 || i.Target.Port != 0 || i.Target.Subset != "" ||
		!slices.ContainsFunc(i.Callers, func(c experiments.Caller) bool { return len(c.Labels) == 0 }) ||
		i.PartOfTheTime()
}

// Callers returns the namespaces that have called each host in the last hour, by
// what their own proxies report. It returns an error when a host has none.
func Callers(ctx context.Context, query Query, hosts []string) (map[string][]experiments.Caller, error) {
	callers := map[string][]experiments.Caller{}
	for _, host := range hosts {
		selector := telemetry.Selector(telemetry.Requests, telemetry.BySource, telemetry.To(host))
		samples, err := query(ctx, fmt.Sprintf("group by (%s) (last_over_time(%s[1h]))", telemetry.LabelSourceNamespace, selector))
		if err != nil {
			return nil, err
		}
		var found []experiments.Caller
		for _, sample := range samples {
			if namespace := sample.Labels[telemetry.LabelSourceNamespace]; namespace != "" && namespace != telemetry.Unknown {
				found = append(found, experiments.Caller{Namespace: namespace})
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s has no calls to %s from any namespace in the last hour; name spec.callers", telemetry.Requests, host)
		}
		slices.SortFunc(found, func(a, b experiments.Caller) int { return strings.Compare(a.Namespace, b.Namespace) })
		callers[host] = found
	}
	return callers, nil
}
