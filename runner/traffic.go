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

// ReadTraffic asks how many of the calls from a namespace to a host faults would
// hit: those that mesh.Striking gives. It is nil when there is no such series:
// nobody has called, or Prometheus does not know of it.
func ReadTraffic(ctx context.Context, q steadystate.Querier, faults []experiments.Fault, host, callers string) (*Traffic, error) {
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
	hit, failing := Shares(faults)
	return &Traffic{Requests: requests, Hit: requests * hit, Failing: requests * failing, AtMost: slices.ContainsFunc(faults, narrowed)}, nil
}

// Shares gives the shares of the matched requests, 0 to 1, that faults hit and
// that they make fail. Faults strike independently of each other, and so do the
// abort and the delay of one fault.
func Shares(faults []experiments.Fault) (hit, failing float64) {
	spared, survive := 1.0, 1.0
	for _, f := range faults {
		if f.Percentage == nil {
			continue
		}
		rest := 1 - float64(*f.Percentage)/100
		if f.Delay != nil {
			spared *= rest
		}
		if f.Abort != nil || f.Blackhole != nil {
			spared *= rest
		}
		if f.Blackhole != nil || f.Abort != nil && fails(*f.Abort) {
			survive *= rest
		}
	}
	return 1 - spared, 1 - survive
}

// fails reports whether callers see an abort as a failure.
func fails(a experiments.Abort) bool {
	if a.GRPCStatus != "" {
		return a.GRPCStatus != "OK"
	}
	return a.HTTPStatus >= 400
}

// narrowed reports whether a fault is for a part of the calls that
// istio_requests_total cannot tell from the rest, or for a part of the time: it
// has neither the pods' labels nor anything of a request.
func narrowed(f experiments.Fault) bool {
	return len(f.Match) > 0 || f.Target.Port != 0 || f.Target.Subset != "" ||
		!slices.ContainsFunc(f.Callers, func(c experiments.Caller) bool { return len(c.Labels) == 0 }) ||
		f.StartAfter.Duration > 0 || f.Duration.Duration > 0
}
