package effect

import (
	"fmt"
	"testing"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/render"
)

// An abort with a gRPC status is 200 OK for callers that do not speak gRPC. Istio's
// metrics report all aborted requests as HTTP, so the other requests of the caller
// decide.
func TestAnsweredOK(t *testing.T) {
	all := experiments.Percentage(100)
	decision := func(abort experiments.Abort) []mesh.Decision {
		spec := experiments.Spec{Faults: []experiments.Fault{{Abort: &abort, Percentage: &all, Target: &experiments.Target{Host: "ratings"}}}}
		return []mesh.Decision{{Host: "ratings", Callers: "shop", Injections: spec.Injections(), Signature: render.Signature{Aborts: true, Destinations: []string{"ratings"}}}}
	}
	grpcStatus := decision(experiments.Abort{GRPCStatus: "UNAVAILABLE"})
	type series struct {
		workload, protocol, code, flags string
		before, after                   float64
	}
	for name, test := range map[string]struct {
		decisions []mesh.Decision
		series    []series
		want      float64
	}{
		"HTTP callers": {grpcStatus, []series{{"a", "http", "200", "-", 10, 20}, {"a", "http", "200", "FI", 3, 10}}, 7},
		"gRPC callers": {grpcStatus, []series{{"a", "grpc", "200", "-", 10, 20}, {"a", "http", "200", "FI", 3, 10}}, 0},
		"one of each":  {grpcStatus, []series{{"a", "http", "200", "-", 10, 20}, {"a", "http", "200", "FI", 0, 10}, {"b", "grpc", "200", "-", 5, 6}, {"b", "http", "200", "FI", 0, 90}}, 10},
		"both":         {grpcStatus, []series{{"a", "http", "200", "-", 10, 20}, {"a", "grpc", "200", "-", 10, 20}, {"a", "http", "200", "FI", 3, 10}}, 0},
		"all are hit":  {grpcStatus, []series{{"a", "http", "200", "FI", 3, 10}}, 0},
		"delayed too":  {grpcStatus, []series{{"a", "http", "200", "-", 10, 20}, {"a", "http", "200", "DI,FI", 0, 4}}, 4},
		"calls before": {grpcStatus, []series{{"a", "http", "503", "UF", 10, 10}, {"a", "http", "200", "FI", 3, 10}}, 7},
		"HTTP status":  {decision(experiments.Abort{HTTPStatus: 200}), []series{{"a", "http", "200", "-", 10, 20}, {"a", "http", "200", "FI", 3, 10}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMeter(nil, Clock{server: 1}, experiments.Spec{}, test.decisions)
			m.begin = 1
			for i, at := range []float64{2, 3} {
				reading := Reading{Counters: map[string]Counter{}, Targets: map[string]float64{"/": at}}
				for n, s := range test.series {
					reading.Counters[fmt.Sprint(n)] = Counter{Value: []float64{s.before, s.after}[i], Scraped: at, labels: map[string]string{
						"source_workload_namespace": "shop", "source_workload": s.workload, "destination_service": "ratings",
						"request_protocol": s.protocol, "response_code": s.code, "response_flags": s.flags,
					}}
				}
				m.Add(reading)
			}
			if got := m.protocols.answeredOK(); got != test.want {
				t.Errorf("%g requests instead of %g", got, test.want)
			}
		})
	}
}
