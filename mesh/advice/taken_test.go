package advice_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/meshtest"
)

const abort = "[{abort: {httpStatus: 503}, percentage: 50}]"

// The side effects of a fault are named where the base has it.
func TestWhatAFaultTakesAlong(t *testing.T) {
	const (
		object  = "http route 1 of VirtualService shop/squall-ratings-a093b15a "
		mirrors = object + "mirrors requests, but not those that the fault hits"
		cors    = object + "has a corsPolicy, which does not apply to aborted requests: preflights fail, and browsers report a network error in place of the status"
	)
	for name, test := range map[string]struct {
		route, fault string
		want         []string
	}{
		"abort of a mirrored route":  {"mirror: {host: shadow}", abort, []string{mirrors}},
		"abort of several mirrors":   {"mirrors: [{destination: {host: shadow}}]", abort, []string{mirrors}},
		"reject of a mirrored route": {"mirror: {host: shadow}", "[{blackhole: {mode: reject}}]", []string{mirrors}},
		"drop of a mirrored route":   {"mirror: {host: shadow}", "[{blackhole: {mode: drop}}]", nil},
		"delay of a mirrored route":  {"mirror: {host: shadow}", "[{delay: {fixedDelay: 1s}, percentage: 50}]", nil},
		"abort with CORS":            {"corsPolicy: {maxAge: 1s}", abort, []string{cors}},
		"reject with CORS":           {"corsPolicy: {maxAge: 1s}", "[{blackhole: {mode: reject}}]", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := meshtest.Snapshot(t, meshtest.VirtualService("prod/ratings", "{hosts: [ratings], http: [{route: [{destination: {host: ratings}}], "+test.route+"}]}"))
			_, warnings := decided(s, meshtest.Experiment(t, abort, test.fault))
			var got []string
			for _, warning := range warnings {
				if slices.Contains([]string{mirrors, cors}, warning) {
					got = append(got, warning)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s%q", diff, warnings)
			}
		})
	}
}

// Envoy answers a request that is not gRPC with 200 when it aborts it with a gRPC
// status.
func TestGRPCStatusForOthers(t *testing.T) {
	const warning = "port 80 of ratings.prod.svc.cluster.local is not gRPC, and callers that do not speak gRPC get 200 OK for an abort with a grpcStatus: use httpStatus, which gRPC callers see as a status too"
	for name, test := range map[string]struct {
		port config.Port
		want []string
	}{
		"http":              {port: config.Port{Number: 80, Name: "http-api", OfService: true}, want: []string{warning}},
		"grpc":              {port: config.Port{Number: 80, Name: "grpc", OfService: true}},
		"http2":             {port: config.Port{Number: 80, Name: "http2", OfService: true}},
		"any":               {port: config.Port{Number: 80, Name: "api", OfService: true}},
		"appProtocol first": {port: config.Port{Number: 80, Name: "http", AppProtocol: "grpc", OfService: true}},
		"of a ServiceEntry": {port: config.Port{Number: 80, Name: "x", Declared: "HTTP"}, want: []string{warning}},
	} {
		t.Run(name, func(t *testing.T) {
			s := meshtest.Snapshot(t)
			s.Services[0].Ports = []config.Port{test.port}
			_, warnings := decided(s, meshtest.Experiment(t, abort, "[{abort: {grpcStatus: UNAVAILABLE}, percentage: 50}]"))
			if diff := cmp.Diff(test.want, warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A blackhole that does not have its target's settings is not the outage that it
// should be.
func TestPoliciesThatABlackholeLacks(t *testing.T) {
	drop := meshtest.Experiment(t, abort, "[{blackhole: {mode: drop}}]")
	s := meshtest.Snapshot(t)
	s.WithoutDestinationRules = true
	_, warnings := decided(s, drop)
	want := []string{"DestinationRules could not be read, so the blackhole has Istio's default connect timeout and no limits and no outlier detection: the permission to list destinationrules is missing"}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
	if _, warnings := decided(s, meshtest.Experiment(t)); warnings != nil {
		t.Errorf("an abort needs none: %q", warnings)
	}
	s = meshtest.Snapshot(t, "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {namespace: shop, name: some}, spec: {host: ratings.prod.svc.cluster.local, workloadSelector: {matchLabels: {app: a}}}}")
	_, warnings = decided(s, drop)
	want = []string{"DestinationRule shop/some applies to some of the callers only (workloadSelector), and not to the blackhole"}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
}
