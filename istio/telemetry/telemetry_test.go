package telemetry_test

import (
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/squall-chaos/squall/istio/telemetry"
)

func TestSelector(t *testing.T) {
	const want = `istio_requests_total{reporter=~"source|waypoint",destination_service=~"(squall-[^.]+\\.)?(a\\.prod|b\\.prod)(\\.squall\\.internal)?",source_workload_namespace="shop"}`
	if got := telemetry.Selector(telemetry.Requests, telemetry.BySource, telemetry.ToAny([]string{"b.prod", "a.prod", "b.prod"}), telemetry.From("shop")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := telemetry.Selector(telemetry.Requests, telemetry.To(`a"b`)); got != `istio_requests_total{destination_service=~"(squall-[^.]+\\.)?a\"b(\\.squall\\.internal)?"}` {
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

// One matcher selects the calls to a host, diverted or not, and no other calls.
func TestTo(t *testing.T) {
	const name = "squall-ratings-1a2b3c4d-reject"
	for _, test := range []struct {
		host string
		want map[string]bool
	}{
		{"ratings.prod.svc.cluster.local", map[string]bool{
			"ratings.prod.svc.cluster.local":                                 true,
			telemetry.Diverted("ratings.prod.svc.cluster.local", name):       true,
			telemetry.Diverted("ratings.staging.svc.cluster.local", name):    false,
			telemetry.Diverted("eu.ratings.prod.svc.cluster.local", name):    false,
			"eu.ratings.prod.svc.cluster.local":                              false,
			"ratingsxprod.svc.cluster.local":                                 false,
			telemetry.Diverted("ratings.prod.svc.cluster.local.other", name): false,
		}},
		{"2001:db8::1", map[string]bool{
			"2001:db8::1":                           true,
			telemetry.Diverted("2001:db8::1", name): true,
			telemetry.Diverted("2001:db8::2", name): false,
		}},
	} {
		matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(telemetry.Selector(telemetry.Requests, telemetry.To(test.host)))
		if err != nil {
			t.Fatal(err)
		}
		for value, want := range test.want {
			for _, m := range matchers {
				if m.Name == telemetry.LabelDestination && m.Matches(value) != want {
					t.Errorf("%s matches %s: %t", m, value, !want)
				}
			}
			if telemetry.IsDiverted(value) != (value != test.host && len(value) > len(name) && value[:len(name)] == name) {
				t.Errorf("%s is diverted: %t", value, telemetry.IsDiverted(value))
			}
		}
	}
}

func TestAnswered(t *testing.T) {
	for _, test := range []struct {
		code, flags string
		want        bool
	}{
		{"200", "-", true},
		{"204", "-", true},
		{"404", "-", true},
		{"503", "UH", false},
		{"200", "UH", false},
		{"0", "DC", false},
		{"503", "-", false},
		{"", "-", false},
		{"200", "", false},
	} {
		if got := telemetry.Answered(map[string]string{"response_code": test.code, "response_flags": test.flags}); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
}
