package e2e_test

import (
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

// held waits until a run's fault is active for a workload, calls check, and ends the
// run.
func held(t *testing.T, s *squall, workload, host string, check func()) {
	t.Helper()
	s.says("observe")
	inForce(t, workload, host, true)
	check()
	s.signal(syscall.SIGTERM)
	s.exits(4)
	inForce(t, workload, host, false)
}

// Nothing answers at the destination, and the mesh knows it.
func TestBlackholeReject(t *testing.T) {
	s := runFile(t, spec{faults: "[{blackhole: {mode: reject}}]"})
	held(t, s, reviews, ratings, func() {
		rejected := call(t, reviews, ratings)
		wantCalls(t, "the callers", rejected, "UNAVAILABLE", false)
		if rejected.Latency.P50 > 1000 {
			t.Errorf("refused only after %.0f ms", rejected.Latency.P50)
		}
		wantCalls(t, "callers with other labels", call(t, "shop/other", ratings), "OK", false)
		wantCalls(t, "the callers' other calls", call(t, reviews, details), "OK", false)
	})
	wantCalls(t, "after", call(t, reviews, ratings), "OK", false)
}

// Connections go to an address that never answers, so a caller waits as long as
// it likes, or as the route's timeout lets it.
func TestBlackholeDrop(t *testing.T) {
	s := runFile(t, spec{target: "{host: " + details + "}", callers: "[{namespace: shop, labels: {app: productpage}}]", faults: "[{blackhole: {mode: drop}}]"})
	held(t, s, page, details, func() {
		dropped := call(t, page, details, "--timeout", "700ms")
		wantCalls(t, "the callers", dropped, "DEADLINE_EXCEEDED", false)
		if dropped.Latency.P50 < 690 {
			t.Errorf("ended after %.0f ms of 700", dropped.Latency.P50)
		}
		wantCalls(t, "callers with other labels", call(t, "shop/other", details), "OK", false)
	})
	wantCalls(t, "after", call(t, page, details), "OK", false)
}

// The share of the requests that are hit is within a point of the share that
// was asked for. With these shares and as many requests, chance alone would take
// it further away once in a hundred thousand times.
func TestShareOfRequests(t *testing.T) {
	const calls = 10_000
	for _, test := range []struct {
		name, faults string
		percentage   float64
		hit          func(testbed.CallResult) int
	}{
		{"abort", "[{abort: {httpStatus: 503}, percentage: 5}]", 5, func(r testbed.CallResult) int { return r.Injected }},
		{"delay", "[{delay: {fixedDelay: 120ms}, percentage: 95}]", 95, func(r testbed.CallResult) int { return r.Injected }},
		{"reject", "[{blackhole: {mode: reject}, percentage: 4}]", 4, func(r testbed.CallResult) int { return r.Codes["UNAVAILABLE"] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := "{host: " + details + "}"
			s := runFile(t, spec{target: target, callers: "[{namespace: shop, labels: {app: productpage}}]", faults: test.faults, duration: "2m"})
			held(t, s, page, details, func() {
				got, err := mesh.Call(t.Context(), page, details+":9080", "-n", fmt.Sprint(calls), "--rate", "1000")
				if err != nil {
					t.Fatal(err)
				}
				share := 100 * float64(test.hit(got)) / float64(got.Calls)
				t.Logf("%.2f %% of %d requests were hit, %g %% asked for", share, got.Calls, test.percentage)
				if got.Calls != calls || math.Abs(share-test.percentage) > 1 {
					t.Errorf("share %.2f %% of %+v", share, got)
				}
			})
		})
	}
}

// One object for each namespace of callers, each with its heartbeat.
func TestTwoCallerNamespaces(t *testing.T) {
	s := runFile(t, spec{callers: "[{namespace: shop, labels: {app: reviews}}, {namespace: prod}]"})
	s.says("observe")
	inForce(t, "prod/reviews-v1", ratings, true)
	held(t, s, reviews, ratings, func() {
		found, err := ours(t.Context())
		if err != nil || len(found) != 4 {
			t.Errorf("objects %v: %v", found, err)
		}
		wantCalls(t, "callers in shop", call(t, reviews, ratings), "UNAVAILABLE", true)
		wantCalls(t, "callers in prod", call(t, "prod/reviews-v1", ratings), "UNAVAILABLE", true)
		wantCalls(t, "callers with other labels", call(t, "shop/other", ratings), "OK", false)
	})
}

// Callers that the file does not name are those that Prometheus knows.
func TestCallersAreFound(t *testing.T) {
	s := runFile(t, spec{callers: "none"})
	s.says("callers in shop: shadow")
	held(t, s, reviews, ratings, func() {
		wantCalls(t, "the callers", call(t, reviews, ratings), "UNAVAILABLE", true)
	})
}

// An external host is one that only a ServiceEntry knows.
func TestExternalHost(t *testing.T) {
	create(t, serviceEntries, "ServiceEntry", "prod", "external", map[string]any{
		"hosts": []any{"api.example.com"}, "location": "MESH_EXTERNAL", "resolution": "STATIC",
		"ports":     []any{map[string]any{"number": int64(9080), "name": "grpc", "protocol": "GRPC"}},
		"endpoints": []any{map[string]any{"address": "127.0.0.13", "ports": map[string]any{"grpc": int64(9080)}}},
	})
	wantCalls(t, "before", call(t, reviews, "api.example.com"), "OK", false)
	for faults, code := range map[string]string{"[{abort: {grpcStatus: ABORTED}, percentage: 100}]": "ABORTED", "[{blackhole: {mode: reject}}]": "UNAVAILABLE"} {
		s := runFile(t, spec{target: "{host: api.example.com}", faults: faults})
		held(t, s, reviews, "api.example.com", func() {
			wantCalls(t, faults, call(t, reviews, "api.example.com"), code, code == "ABORTED")
		})
	}
	wantCalls(t, "after", call(t, reviews, "api.example.com"), "OK", false)
}

// Faults start and end at their own times. At every moment there are either the
// original routes or the routes with a fault.
func TestFaultsWithTimes(t *testing.T) {
	s := runFile(t, spec{duration: "10s", faults: "[{abort: {httpStatus: 503}, percentage: 100, startAfter: 4s, duration: 3s}, {delay: {fixedDelay: 150ms}, percentage: 100, duration: 2s, match: [{headers: {x-slow: {}}}]}]"})
	s.says("observe")
	began := time.Now()
	inForce(t, reviews, ratings, true)
	wantCalls(t, "without the header at first", call(t, reviews, ratings), "OK", false)
	wantCalls(t, "with the header at first", call(t, reviews, ratings, "--header", "x-slow=1"), "OK", true)
	eventually(t, func() error {
		if got := call(t, reviews, ratings); got.Injected != got.Calls {
			return fmt.Errorf("the abort has not started: %+v", got)
		}
		return nil
	})
	if at := time.Since(began); at < 4*time.Second {
		t.Errorf("the abort was in force after %s", at)
	}
	s.says("update VirtualService")
	eventually(t, func() error {
		if got := call(t, reviews, ratings); got.Injected > 0 || got.Codes["OK"] != got.Calls {
			return fmt.Errorf("the abort has not ended: %+v", got)
		}
		return nil
	})
	if at := time.Since(began); at < 7*time.Second || at > 10*time.Second {
		t.Errorf("the abort ended after %s", at)
	}
	s.exits(0)
}

// The proof of a blackhole comes from what the callers' proxies report.
func TestBlackholeIsProven(t *testing.T) {
	s := runFile(t, spec{faults: "[{blackhole: {mode: reject}}]", duration: "4s", more: "effect: {minRequests: 10}\n  recovery: {within: 30s}"})
	s.exits(0)
	if !strings.Contains(s.stdout.String(), "hit ") {
		t.Error("the summary does not say how many requests were hit")
	}
}
