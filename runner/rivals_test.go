package runner_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Of two runs that start on the same calls at the same moment, with objects in
// different namespaces, exactly one gets past the injection.
func TestTwoHomeNamespaces(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			// Neither creates its object before both have found the calls free.
			c.On("create VirtualService", func() { time.Sleep(time.Millisecond) })
			results := make([]event.Result, 2)
			records := []*record{{}, {}}
			var all sync.WaitGroup
			for i, home := range []string{"", "prod"} {
				all.Go(func() {
					e := experiment(t)
					r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(c), Options: mesh.Options{HomeNamespace: home}})
					results[i] = r.Run(t.Context(), r.NewRun(e, time.Now()), e, records[i])
				})
			}
			all.Wait()
			winner, loser := 0, 1
			if results[0].Status == event.StatusRefused {
				winner, loser = 1, 0
			}
			if results[winner].Status != event.StatusCompleted || results[loser].Status != event.StatusRefused || !strings.Contains(results[loser].Reason, "already disturbs the calls from shop to ratings.prod.svc.cluster.local, with VirtualService ") {
				t.Errorf("results %+v", results)
			}
			if _, observed := records[loser].phases[event.PhaseObserve]; observed {
				t.Error("both runs were active")
			}
			if left := c.Owned(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// A run that cannot find out whether there is another one ends.
func TestRivalsThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.Fail("earlier", errors.New("boom"))
		result := run(t, c, healthy(c), nil, &record{}, forever)
		if result.Status != event.StatusFailed || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "whether another run disturbs the same calls: boom") {
			t.Errorf("result %+v", result)
		}
	})
}

// A run does not count the hits of the next one on the same calls, also if it cannot read
// the counters for a while.
func TestHitsOfTheNextRun(t *testing.T) {
	for name, blind := range map[string]time.Duration{"while the next one is active": 32 * time.Second, "after the next one": 55 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, start := newCluster(t), time.Now()
				well := healthy(c)
				var next sync.WaitGroup
				time.AfterFunc(23500*time.Millisecond, func() {
					next.Go(func() {
						r := newRunner(t, runner.Config{Cluster: c, Querier: well})
						if result := r.Run(t.Context(), r.NewRun(experiment(t), time.Now()), experiment(t), &record{}); result.Verdict != steadystate.Held {
							t.Errorf("the next run: %+v", result)
						}
					})
				})
				e, rec := experiment(t), &record{}
				r := newRunner(t, runner.Config{Cluster: c, Querier: fakePrometheus(func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if since := time.Since(start); since > 22500*time.Millisecond && since < blind && strings.Contains(promql, "istio_requests_total") {
						return nil, errors.New("Prometheus is down")
					}
					return well(ctx, promql)
				})})
				result := r.Run(t.Context(), r.NewRun(e, start), e, rec)
				next.Wait()
				if result.Status != event.StatusCompleted || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "another run disturbs the same calls: ") {
					t.Errorf("result %+v", result)
				}
				if hit := hits(rec); hit < 1 || hit > 2000 {
					t.Errorf("%.0f hits of 2000", hit)
				}
			})
		})
	}
}

// hits returns the number of requests that a run has hit.
func hits(rec *record) float64 {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, e := range rec.events {
		if effect, is := e.(event.Effect); is {
			return effect.Requests
		}
	}
	return -1
}

// A fault that is gone before the run deletes it has not been active to the end,
// although no watch has reported it.
func TestAFaultThatVanishesUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.On("delete VirtualService", func() {
			c.On("delete VirtualService", nil)
			for _, name := range c.Owned() {
				if strings.HasPrefix(name, "VirtualService ") {
					_ = c.Delete(context.WithoutCancel(t.Context()), refOf(c, name), c.Object(name).GetLabels()["squall.dev/run"])
				}
			}
		})
		result := run(t, c, healthy(c), nil, &record{}, forever)
		if result.Status != event.StatusFailed || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "was gone before the run deleted it") {
			t.Errorf("result %+v", result)
		}
		if result.InjectedMost.Duration != 20*time.Second || result.Injected.Duration >= result.InjectedMost.Duration {
			t.Errorf("active for %s to %s", result.Injected, result.InjectedMost)
		}
	})
}
