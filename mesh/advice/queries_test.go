package advice_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/mesh/advice"
	"github.com/squall-chaos/squall/mesh/meshtest"
)

// A query that names the target only does not count what a blackhole takes. Plan and
// validate warn of it alike.
func TestQueriesThatMissDivertedCalls(t *testing.T) {
	const (
		blackhole = "[{blackhole: {mode: reject}, percentage: 50}]"
		missing   = `probe "p" does not count the calls that the blackhole takes, because Istio's metrics report them under another host: select the target by destination_service=~"(squall-[^.]+\\.)?ratings\\.prod\\.svc\\.cluster\\.local(\\.squall\\.internal)?" instead`
	)
	for name, test := range map[string]struct {
		query, fault string
		warns        bool
	}{
		"by host":              {query: `istio_requests_total{reporter="source",destination_service="ratings.prod.svc.cluster.local"}`, warns: true},
		"by a pattern":         {query: `istio_requests_total{destination_service=~"ratings\\..*\\.local"}`, warns: true},
		"by name":              {query: `istio_request_duration_milliseconds_bucket{reporter="source",destination_service_name="ratings",destination_service_namespace="prod"}`, warns: true},
		"one of two selectors": {query: `sum(istio_requests_total{reporter="source",source_workload="a"}) / sum(istio_requests_total{reporter="source",destination_service="ratings.prod.svc.cluster.local"})`, warns: true},
		"diverted too":         {query: `istio_requests_total{destination_service=~"(squall-[^.]+\\.)?ratings\\.prod\\.svc\\.cluster\\.local(\\.squall\\.internal)?"}`},
		"a loose pattern":      {query: `istio_requests_total{destination_service=~".*ratings\\.prod.*"}`},
		"no destination":       {query: `istio_requests_total{reporter="source",source_workload="reviews"}`},
		"another host":         {query: `istio_requests_total{reporter="source",destination_service="details.prod.svc.cluster.local"}`},
		"an abort":             {query: `istio_requests_total{reporter="source",destination_service="ratings.prod.svc.cluster.local"}`, fault: "[{abort: {httpStatus: 503}, percentage: 50}]"},
	} {
		t.Run(name, func(t *testing.T) {
			fault := blackhole
			if test.fault != "" {
				fault = test.fault
			}
			e := meshtest.Experiment(t, "[{abort: {httpStatus: 503}, percentage: 50}]", fault, probeUp, probe(test.query))
			var want []string
			if test.warns {
				want = []string{missing}
			}
			_, planned := decided(meshtest.Snapshot(t), e)
			if diff := cmp.Diff(want, planned); diff != "" {
				t.Errorf("plan: %s", diff)
			}
			if diff := cmp.Diff(want, advice.Undiverted(e)); diff != "" {
				t.Errorf("validate: %s", diff)
			}
		})
	}
}

// The queries of built-in probes count diverted calls.
func TestBuiltInProbesSeeDivertedCalls(t *testing.T) {
	for _, measure := range []string{"successRate: {destination: ratings.prod}, min: 0.9", "latency: {destination: ratings.prod, quantile: 0.9}, max: 1", "requestRate: {destination: ratings.prod}, min: 1"} {
		e := meshtest.Experiment(t, "[{abort: {httpStatus: 503}, percentage: 50}]", "[{blackhole: {mode: drop}}]", probeUp, "{name: p, "+measure+"}")
		if found := advice.Undiverted(e); found != nil {
			t.Errorf("%s: %s", measure, found)
		}
	}
}
