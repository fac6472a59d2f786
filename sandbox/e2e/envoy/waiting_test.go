package envoy_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

// The timeout and the retries of a route apply to a blackhole of requests. A reject
// is answered at once. A drop waits until the route's timeout, or until as many
// connections as the retries allow have not been made in time; the timeout of a try
// begins when there is a connection.
func TestTimeoutsAndRetries(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mode, fields, code string
		retries            int    // of each request
		waits              []wait // in the plan
	}{
		"reject": {mode: "reject", fields: "timeout: 3s\nretries: {attempts: 2, retryOn: '5xx,connect-failure,refused-stream'}", code: "503"},
		"drop-timeout": {
			mode: "drop", fields: "timeout: 3s\nretries: {attempts: 2, perTryTimeout: 600ms, retryOn: 'reset,connect-failure'}", code: "504",
			waits: []wait{{Protocol: "http", Longest: "3s", Attempts: 3, Timeout: "3s"}},
		},
		"drop-no-answer": {
			mode: "drop", fields: "retries: {attempts: 1, retryOn: connect-failure}", code: "503", retries: 1,
			waits: []wait{{Protocol: "http", Longest: "20s", Attempts: 2}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, target := service(t, name, "{app: details}")
			routed(t, name, test.fields)
			e := experiment{target: target, callers: others, faults: "[{blackhole: {mode: " + test.mode + "}}]"}
			if diff := cmp.Diff(test.waits, planned(t, e).Decisions[0].Waits); diff != "" {
				t.Errorf("the waits in the plan: %s", diff)
			}
			s := start(t, e)
			s.hits(other, address, test.code, "--timeout", "60s")
			before := retries(t, name)
			want(t, "the callers", call(t, other, address, "-n", "5", "--timeout", "60s"), test.code)
			if got := retries(t, name) - before; got != 5*test.retries {
				t.Errorf("%d retries of 5 requests instead of %d", got, 5*test.retries)
			}
			s.ends()
			isClean(t, other, address)
		})
	}
}

// One connect timeout fails all requests that wait for the same address, so a drop of
// many requests becomes a reject. A caller whose deadline is shorter than the timeout
// waits for its whole deadline only if it is alone.
func TestDropUnderLoad(t *testing.T) {
	t.Parallel()
	address, target := service(t, "busy", "{app: details}")
	s := start(t, experiment{target: target, callers: others, faults: "[{blackhole: {mode: drop}}]"})
	s.hits(other, address, "TIMEOUT", "--timeout", "8s")
	eventually(t, func() error {
		got := call(t, other, address, "-n", "450", "--rate", "30", "--timeout", "8s")
		if got.Codes["503"] == 0 {
			return fmt.Errorf("all requests wait for their deadline: %+v", got)
		}
		return nil
	})
	s.ends()
	isClean(t, other, address)
}

// A delay with an abort keeps every caller waiting until its deadline, under load too.
func TestCallersThatHang(t *testing.T) {
	t.Parallel()
	address, target := service(t, "hanging", "{app: details}")
	s := start(t, experiment{target: target, callers: others, faults: "[{delay: {fixedDelay: 60s}, abort: {httpStatus: 503}, percentage: 100}]"})
	s.hits(other, address, "TIMEOUT", "--timeout", "1s")
	want(t, "the callers", call(t, other, address, "-n", "450", "--rate", "30", "--timeout", "1s"), "TIMEOUT")
	s.ends()
	isClean(t, other, address)
}

// A request that a drop holds at the rollback is not released: its retry finds the
// temporary host gone. New requests reach the target at once.
func TestRequestsThatWaitAtTheRollback(t *testing.T) {
	t.Parallel()
	address, target := service(t, "waiting", "{app: details}")
	s := start(t, experiment{target: target, callers: others, faults: "[{blackhole: {mode: drop}}]"})
	s.hits(other, address, "TIMEOUT", "--timeout", "2s")
	waiting := make(chan result, 1)
	begun := attempts(t, "waiting")
	go func() {
		var r result
		r.CallResult, r.err = mesh.Call(context.WithoutCancel(t.Context()), other, address, "-n", "1", "--timeout", "60s")
		waiting <- r
	}()
	eventually(t, func() error {
		if attempts(t, "waiting") == begun {
			return errors.New("no request waits")
		}
		return nil
	})
	s.ends()
	isClean(t, other, address)
	if got := <-waiting; got.err != nil || got.Codes["503"] != 1 {
		t.Errorf("a request that was waiting: %+v", got)
	}
}

// attempts returns how many requests the pod has sent to a destination of Squall that
// takes the place of a service, or has tried to.
func attempts(t testing.TB, name string) int {
	t.Helper()
	return counterOf(t, other, `cluster\.outbound\|9080\|\|[^:]*squall[^:]*`+name+`[^:]*\.upstream_rq_pending_total`)
}

// retries returns how many requests the pod has tried again to a destination of
// Squall that takes the place of a service.
func retries(t testing.TB, name string) int {
	t.Helper()
	return counterOf(t, other, `cluster\.outbound\|9080\|\|[^:]*squall[^:]*`+name+`[^:]*\.upstream_rq_retry`)
}

// Requests that are in flight when a fault begins or ends are answered, by the
// target or by the fault.
func TestInFlight(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ faults, code string }{
		"abort":  {faults: "[{abort: {httpStatus: 555}, percentage: 100}]", code: "555"},
		"reject": {faults: "[{blackhole: {mode: reject}}]", code: "503"},
		"delay":  {faults: "[{delay: {fixedDelay: 2s}, percentage: 100}]", code: "200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := "in-flight-" + name
			address, target := service(t, host, "{app: details}")
			reserve(t, target)
			// A 503 may also be a connection that was cut. Requests pass through until
			// istiod knows the Service.
			cut := func() float64 {
				t.Helper()
				count, err := query(fmt.Sprintf(`sum(istio_requests_total{reporter="source",source_workload="other",destination_service=%q,destination_service_name!="PassthroughCluster",response_flags!~"-|DI|FI|UH"})`, host+".prod.svc.cluster.local"))
				if err != nil {
					t.Fatal(err)
				}
				return count
			}
			before := cut()
			stop := make(chan struct{})
			quick := calling(t, stop, address, "-n", "60", "--rate", "20")
			slow := calling(t, stop, address, "-n", "30", "--rate", "10", "--path", "/?wait=2s")
			s := start(t, experiment{target: target, callers: others, faults: test.faults, duration: "12s"})
			s.exits(0)
			isClean(t, other, address)
			close(stop)
			for what, results := range map[string]<-chan result{"quick": quick, "slow": slow} {
				got := <-results
				if got.err != nil {
					t.Fatal(got.err)
				}
				t.Logf("%s requests: %+v", what, got)
				if spared, hit := got.Codes["200"], got.Codes[test.code]; spared == 0 || hit == 0 || spared != got.Calls && spared+hit != got.Calls {
					t.Errorf("%s requests: %+v", what, got)
				}
			}
			if failed := cut() - before; failed > 0 {
				t.Errorf("%g requests have failed by themselves", failed)
			}
		})
	}
}

type result struct {
	testbed.CallResult

	err error
}

// calling calls until stop is closed, and returns what all calls came to.
func calling(t testing.TB, stop <-chan struct{}, address string, args ...string) <-chan result {
	results := make(chan result, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() {
		all := result{CallResult: testbed.CallResult{Codes: map[string]int{}}}
		for stopped := false; !stopped && all.err == nil; {
			select {
			case <-stop:
				stopped = true // a last round, after the run
			default:
			}
			var got testbed.CallResult
			got, all.err = mesh.Call(ctx, other, address, append([]string{"--timeout", "30s"}, args...)...)
			all.Calls += got.Calls
			for code, count := range got.Codes {
				all.Codes[code] += count
			}
		}
		results <- all
	}()
	return results
}
