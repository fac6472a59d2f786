package telemetry_test

import (
	"testing"

	"github.com/squall-chaos/squall/istio/telemetry"
)

func TestSelector(t *testing.T) {
	const want = `istio_requests_total{reporter=~"source|waypoint",destination_service=~"a\\.prod|b\\.prod",source_workload_namespace="shop"}`
	if got := telemetry.Selector(telemetry.Requests, telemetry.BySource, telemetry.ToAny([]string{"b.prod", "a.prod", "b.prod"}), telemetry.From("shop")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := telemetry.Selector(telemetry.Requests, telemetry.To(`a"b`)); got != `istio_requests_total{destination_service="a\"b"}` {
		t.Error(got)
	}
}

func TestHasFlag(t *testing.T) {
	for value, want := range map[string]bool{"FI": true, "DI,FI": true, "-": false, "": false, "UFI": false} {
		if got := telemetry.HasFlag(value, telemetry.FlagAborted); got != want {
			t.Errorf("%q: %t", value, got)
		}
	}
}
