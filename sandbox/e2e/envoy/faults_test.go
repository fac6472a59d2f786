package envoy_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestAbort(t *testing.T) {
	t.Parallel()
	s := start(t, experiment{})
	s.hits(reviews, ratings, "555")
	hit := call(t, reviews, ratings)
	want(t, "the callers", hit, "555")
	if hit.Injected != hit.Calls {
		t.Errorf("%d of %d answers are the fault filter's", hit.Injected, hit.Calls)
	}
	for name, host := range map[string]string{"short name": "ratings.prod", "service name": "ratings.prod.svc", "upper case": "RATINGS.prod"} {
		want(t, name, call(t, reviews, ratings, "--header", "host="+host+":9080"), "555")
	}
	want(t, "other callers of the namespace", call(t, other, ratings), "200")
	want(t, "other calls of the callers", call(t, reviews, details), "200")
	s.ends()
	isClean(t, reviews, ratings)
}

func TestDelay(t *testing.T) {
	t.Parallel()
	s := start(t, experiment{target: "{host: details.prod.svc.cluster.local}", callers: "[{namespace: shop, labels: {app: productpage}}]", faults: "[{delay: {fixedDelay: 2s}, percentage: 100}]"})
	slow := func(from string) error {
		if got := call(t, from, details, "-n", "5"); got.Latency.P50 < 2000 || got.Codes["200"] != got.Calls {
			return fmt.Errorf("not delayed: %+v", got)
		}
		return nil
	}
	eventually(t, func() error { return slow(productpage) })
	if slow(other) == nil {
		t.Error("other callers are delayed")
	}
	s.ends()
	isClean(t, productpage, details)
	if slow(productpage) == nil {
		t.Error("the delay is still there")
	}
}

// A reject answers at once, for there is no endpoint.
func TestBlackholeReject(t *testing.T) {
	t.Parallel()
	s := start(t, experiment{faults: "[{blackhole: {mode: reject}}]"})
	s.hits(reviews, ratings, "503")
	rejected := call(t, reviews, ratings)
	want(t, "the callers", rejected, "503")
	if rejected.Latency.P50 > 1000 {
		t.Errorf("answered after %.0f ms", rejected.Latency.P50)
	}
	want(t, "other callers of the namespace", call(t, other, ratings), "200")
	s.ends()
	isClean(t, reviews, ratings)
}

// A drop lets callers wait, until the route's timeout or their own.
func TestBlackholeDrop(t *testing.T) {
	t.Parallel()
	s := start(t, experiment{target: "{host: details.prod.svc.cluster.local}", callers: "[{namespace: shop, labels: {app: other}}]", faults: "[{blackhole: {mode: drop}}]"})
	s.hits(other, details, "TIMEOUT", "--timeout", "700ms")
	want(t, "the callers", call(t, other, details, "-n", "5", "--timeout", "700ms"), "TIMEOUT")
	want(t, "other callers of the namespace", call(t, productpage, details), "200")
	s.ends()
	isClean(t, other, details)
}

// A blackhole is an outage of the target as the mesh sees it: with the target's connect
// timeout, limits and outlier detection.
func TestBlackholeHasThePolicyOfTheTarget(t *testing.T) {
	rules := mesh.Kube.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"}).Namespace("prod")
	rule := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": map[string]any{"name": "details"},
		"spec": map[string]any{"host": "details.prod.svc.cluster.local", "trafficPolicy": map[string]any{
			"connectionPool":   map[string]any{"tcp": map[string]any{"connectTimeout": "0.500s", "maxConnections": int64(3)}},
			"outlierDetection": map[string]any{"consecutive5xxErrors": int64(50)},
			"tls":              map[string]any{"mode": "ISTIO_MUTUAL"},
		}},
	}}
	if _, err := rules.Create(t.Context(), rule, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rules.Delete(context.WithoutCancel(t.Context()), "details", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	s := start(t, experiment{target: "{host: details.prod.svc.cluster.local}", callers: "[{namespace: shop, labels: {app: other}}]", faults: "[{blackhole: {mode: drop}}]"})
	// Three attempts of half a second. With the default of 10 s each the caller would
	// have given up.
	s.hits(other, details, "503", "--timeout", "9s")
	clusters, err := mesh.Envoy(t.Context(), other, "/clusters")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^outbound\|9080\|\|squall-details-[0-9a-f]+-drop\.details\.prod\.svc\.cluster\.local\.squall\.internal::default_priority::max_connections::3$`).MatchString(clusters) {
		t.Errorf("the temporary host does not have the target's limits:\n%s", clusters)
	}
	s.ends()
	isClean(t, other, details)
}

// Only Envoy matches methods and query parameters.
func TestMatches(t *testing.T) { //nolint:tparallel // its runs are for one host
	t.Parallel()
	for name, test := range map[string]struct {
		match     string
		hit, miss []string
	}{
		"header":          {"[{headers: {end-user: {exact: jason}}}]", []string{"--header", "end-user=jason"}, []string{"--header", "end-user=jane"}},
		"method":          {"[{method: {exact: POST}}]", []string{"-X", "POST"}, []string{"-X", "GET"}},
		"query parameter": {"[{queryParams: {user: {exact: jason}}}]", []string{"--path", "/ratings/0?user=jason"}, []string{"--path", "/ratings/0?user=jane"}},
		"path":            {"[{uri: {prefix: /ratings/1}}]", []string{"--path", "/ratings/12"}, []string{"--path", "/ratings/2"}},
		"path regex":      {"[{uri: {regex: '/ratings/[0-9]+'}}]", []string{"--path", "/ratings/12?x=y"}, []string{"--path", "/ratings/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, experiment{match: test.match, callers: "[{namespace: shop, labels: {app: other}}]"})
			s.hits(other, ratings, "555", test.hit...)
			want(t, "matching requests", call(t, other, ratings, test.hit...), "555")
			want(t, "other requests", call(t, other, ratings, test.miss...), "200")
			s.ends()
			isClean(t, other, ratings, test.hit...)
		})
	}
}

// The share of requests that are hit is within a point of the share that was
// asked for. With 10,000 requests chance alone takes it further away less than
// once in a thousand times.
func TestShare(t *testing.T) { //nolint:tparallel // its runs are for one host
	t.Parallel()
	const busy = "shop/checkout-v1" // no other test needs its proxy
	for name, test := range map[string]struct {
		faults string
		share  float64
		code   string
	}{
		"abort":  {"[{abort: {httpStatus: 555}, percentage: 10}]", 10, "555"},
		"reject": {"[{blackhole: {mode: reject}, percentage: 5}]", 5, "503"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, experiment{faults: test.faults, callers: "[{namespace: shop, labels: {app: checkout}}]", duration: "5m"})
			eventually(t, func() error {
				if call(t, busy, ratings).Codes[test.code] == 0 {
					return fmt.Errorf("no request is answered with %s", test.code)
				}
				return nil
			})
			const calls = 10_000
			got := call(t, busy, ratings, "-n", strconv.Itoa(calls), "--rate", "200", "--timeout", "10s")
			share := 100 * float64(got.Codes[test.code]) / calls
			t.Logf("%.2f %% of %d requests were hit, %g %% asked for", share, calls, test.share)
			if math.Abs(share-test.share) > 1 || got.Codes[test.code]+got.Codes["200"] != calls {
				t.Errorf("share %.2f %% of %+v", share, got)
			}
			s.ends()
		})
	}
}

// Squall counts the hits in Istio's metrics, which the sandbox computes from the
// access log. They must be Envoy's own count.
func TestMetricsAreEnvoysOwn(t *testing.T) {
	before := abortsOf(t, other)
	s := start(t, experiment{callers: "[{namespace: shop, labels: {app: other}}]"})
	s.hits(other, ratings, "555")
	want(t, "the callers", call(t, other, ratings, "-n", "200", "--rate", "200"), "555")
	s.ends()
	aborts := abortsOf(t, other) - before
	if aborts < 200 {
		t.Errorf("Envoy has aborted %d requests of at least 200", aborts)
	}
	// A series begins when its first request ends, so an increase would miss it.
	all := abortsOf(t, other)
	eventually(t, func() error {
		counted, err := query(`sum(istio_requests_total{reporter="source",source_workload="other",response_flags="FI"})`)
		if err == nil && int(counted) != all {
			err = fmt.Errorf("%g requests with the flag FI, but Envoy has aborted %d", counted, all)
		}
		return err
	})
	upstream := counterOf(t, other, `cluster\.outbound\|9080\|\|ratings\.prod\.svc\.cluster\.local;?\.upstream_rq_completed`)
	eventually(t, func() error {
		counted, err := query(`sum(istio_requests_total{reporter="source",source_workload="other",destination_service="ratings.prod.svc.cluster.local",response_flags="-"})`)
		if err == nil && int(counted) != upstream {
			err = fmt.Errorf("%g requests, but Envoy has completed %d", counted, upstream)
		}
		return err
	})
}

// abortsOf returns how many requests the fault filter of a pod has aborted.
func abortsOf(t *testing.T, pod string) int {
	t.Helper()
	return counterOf(t, pod, `fault\.aborts_injected`)
}

// counterOf returns the sum of a pod's counters whose name matches.
func counterOf(t testing.TB, pod, pattern string) int {
	t.Helper()
	stats, err := mesh.Envoy(t.Context(), pod, "/stats")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, line := range regexp.MustCompile(`(?m)^.*`+pattern+`: (\d+)$`).FindAllStringSubmatch(stats, -1) {
		value, err := strconv.Atoi(line[1])
		if err != nil {
			t.Fatal(err)
		}
		sum += value
	}
	return sum
}

// A run that is killed cannot roll back. The cluster does.
func TestKilled(t *testing.T) { //nolint:tparallel // its runs are for one host
	t.Parallel()
	for name, test := range map[string]struct{ faults, code string }{
		"abort":  {"[{abort: {httpStatus: 555}, percentage: 100}]", "555"},
		"reject": {"[{blackhole: {mode: reject}}]", "503"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, experiment{faults: test.faults})
			s.hits(reviews, ratings, test.code)
			s.signal(os.Kill)
			<-s.done
			killed := time.Now()
			eventually(t, func() error { return allAre(call(t, reviews, ratings, "-n", "1"), "200") })
			took := time.Since(killed)
			t.Logf("clean %.1f s after SIGKILL", took.Seconds())
			if took > 20*time.Second {
				t.Errorf("clean only after %s", took)
			}
			want(t, "afterwards", call(t, reviews, ratings), "200")
		})
	}
}

// The proof of the effect comes from what the callers' proxies report.
func TestEffectIsProven(t *testing.T) {
	t.Parallel()
	for _, faults := range []string{"[{abort: {httpStatus: 555}, percentage: 50}]", "[{blackhole: {mode: reject}, percentage: 50}]"} {
		s := start(t, experiment{faults: faults, duration: "10s", more: "effect: {minRequests: 50}\n  recovery: {within: 60s}"})
		s.exits(0)
		if !strings.Contains(s.stdout.String(), "share") {
			t.Errorf("%s: the summary does not say which share was hit:\n%s", faults, s.stdout.String())
		}
	}
}

// Istio's metrics report diverted requests under another host. The built-in probes
// count them, so a blackhole of a half of the requests breaks the success rate.
func TestProbesSeeDivertedRequests(t *testing.T) {
	reserve(t, ratingsTarget)
	eventually(t, func() error { // the faults of an earlier test are over
		failed, err := query(`sum(increase(istio_requests_total{reporter="source",destination_service="ratings.prod.svc.cluster.local",response_flags!="-"}[10s]))`)
		if err == nil && failed > 0 {
			err = fmt.Errorf("%g requests have failed", failed)
		}
		return err
	})
	s := start(t, experiment{
		faults: "[{blackhole: {mode: reject}, percentage: 50}]", duration: "60s",
		probe: "{name: ratings answer, successRate: {destination: ratings.prod, window: 10s}, min: 0.99, failureLimit: 1}",
		more:  "effect: {minRequests: 1}\n  recovery: {within: 60s}",
	})
	s.exits(1)
	if out := s.stdout.String(); !strings.Contains(out, "deviated") || !strings.Contains(out, "ratings answer") {
		t.Errorf("the probe has not deviated:\n%s", out)
	}
}

// gRPC through sidecars: the abort is a status of gRPC.
func TestGRPC(t *testing.T) {
	t.Parallel()
	const stock = "stock.prod.svc.cluster.local:9090"
	want(t, "before", call(t, other, stock, "--grpc"), "OK")
	s := start(t, experiment{target: "{host: stock.prod.svc.cluster.local}", callers: "[{namespace: shop, labels: {app: other}}]", faults: "[{abort: {grpcStatus: ABORTED}, percentage: 100}]"})
	s.hits(other, stock, "ABORTED", "--grpc")
	want(t, "the callers", call(t, other, stock, "--grpc"), "ABORTED")
	s.ends()
	eventually(t, func() error { return allAre(call(t, other, stock, "--grpc"), "OK") })
}

// A gRPC status is a success for callers that do not speak gRPC. The plan warns of it,
// and the summary counts them.
func TestGRPCStatusForOtherCallers(t *testing.T) {
	t.Parallel()
	e := experiment{
		callers: "[{namespace: shop, labels: {app: other}}]", faults: "[{abort: {grpcStatus: UNAVAILABLE}, percentage: 100}]",
		duration: "15s", more: "effect: {minRequests: 1}\n  recovery: {within: 60s}",
	}
	reserve(t, ratingsTarget)
	want(t, "before", call(t, other, ratings), "200")
	planned(t, e).warns(t, "port 9080 of ratings.prod.svc.cluster.local is not gRPC")
	s := start(t, e)
	eventually(t, func() error {
		if got := call(t, other, ratings, "-n", "1"); got.Codes["200"] != 1 || got.Injected != 1 {
			return fmt.Errorf("not aborted with 200: %+v", got)
		}
		return nil
	})
	s.exits(0)
	if out := s.stdout.String(); !strings.Contains(out, "requests hit got 200 OK, because their callers do not speak gRPC") {
		t.Errorf("the summary does not say that callers got 200:\n%s", out)
	}
	isClean(t, other, ratings)
}

// An external host is one that only a ServiceEntry knows.
func TestExternalHost(t *testing.T) {
	t.Parallel()
	reserve(t, paymentsTarget)
	want(t, "before", call(t, other, payments), "200")
	for faults, code := range map[string]string{"[{abort: {httpStatus: 555}, percentage: 100}]": "555", "[{blackhole: {mode: reject}}]": "503"} {
		s := start(t, experiment{target: paymentsTarget, callers: "[{namespace: shop, labels: {app: other}}]", faults: faults})
		s.hits(other, payments, code)
		want(t, faults, call(t, other, payments), code)
		want(t, "other callers", call(t, reviews, payments), "200")
		s.ends()
		isClean(t, other, payments)
	}
}

// Callers in prod must use mTLS, and faults change nothing about that.
func TestMutualTLSIsStrict(t *testing.T) {
	t.Parallel()
	out, err := mesh.Exec(t.Context(), "outside/payments", "curl", "-sS", "-m", "5", "http://ratings.prod.svc.cluster.local:9080/ratings/0")
	if err == nil {
		t.Errorf("a caller without a certificate is answered: %s", out)
	}
}
