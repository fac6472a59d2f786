package runner_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/runnertest"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

func TestARunThatHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, rec := newCluster(t), &record{}
		start := time.Now()
		result := run(t, c, healthy(c), nil, rec, forever)
		if result.Status != event.StatusCompleted || result.Verdict != steadystate.Held || result.Reason != "" {
			t.Errorf("result %+v", result)
		}
		if took := time.Since(start); took != 26*time.Second {
			t.Errorf("took %s beside the 23s that the file asks for and the 3s until two scrapes show that the calls are clean", took)
		}
		want := []string{
			"snapshot", "permitted in shop", "hold", "check Job", "check VirtualService", "create Job", "armed", "snapshot", "hold", "create VirtualService", "earlier",
			"snapshot", "snapshot", "snapshot", "snapshot", "snapshot", // while the fault is active
			"delete VirtualService",
			"earlier", "earlier", "earlier", "earlier", // until the calls are clean
			"delete Job",
		}
		beats := map[string]bool{}
		if diff := cmp.Diff(want, slices.DeleteFunc(c.Log(), func(s string) bool {
			beats[s] = strings.HasPrefix(s, "extend to ")
			return beats[s]
		})); diff != "" {
			t.Error(diff)
		}
		for _, beat := range []string{"extend to 20s", "extend to 25s", "extend to 30s", "extend to 35s"} {
			if !beats[beat] {
				t.Errorf("no heartbeat %q", beat)
			}
		}
		order := slices.DeleteFunc(slices.Clone(rec.types), func(s string) bool { return s == event.Measured{}.Type() || s == event.Counted{}.Type() })
		wantOrder := []string{
			"started", "phase", "planned", "creating", "created", "phase", "phase", "creating", "created", "phase",
			"phase", "deleted", "phase", "phase", "clean", "phase", "effect", "deleted", "finished",
		}
		if diff := cmp.Diff(wantOrder, order); diff != "" {
			t.Error(diff)
		}
	})
}

// An object is recorded before it is created.
func TestTheRecordComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, rec := newCluster(t), &record{}
		for _, kind := range []string{"Job", "VirtualService"} {
			c.On("create "+kind, func() {
				creating, ok := rec.events[len(rec.events)-1].(event.Creating)
				if !ok || creating.Object.GetKind() != kind {
					t.Errorf("%s is created after the event %s", kind, rec.types[len(rec.types)-1])
				}
			})
		}
		run(t, c, healthy(c), nil, rec, forever)
	})
}

func TestEndings(t *testing.T) {
	boom := errors.New("boom")
	// after returns another result for the probe from a time on.
	after := func(c *runnertest.Cluster, start time.Time, d time.Duration, samples []steadystate.Sample, err error) fakePrometheus {
		well := healthy(c)
		return func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
			if promql == "up" && time.Since(start) >= d {
				return samples, err
			}
			return well(ctx, promql)
		}
	}
	low := []steadystate.Sample{{Value: 0}}
	for _, test := range []struct {
		name       string
		cluster    func(*runnertest.Cluster)
		prometheus func(c *runnertest.Cluster, start time.Time) fakePrometheus
		edit       func(*experiments.Experiment)
		failsAt    string
		interrupt  time.Duration
		status     event.Status
		verdict    steadystate.Verdict
		reason     string
		creates    int
		took       time.Duration
	}{
		{
			name: "baseline not held", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus { return after(c, s, 2*time.Second, low, nil) },
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "does not hold before the fault: up: 0 is below 1", creates: 1, took: 2 * time.Second,
		},
		{
			name: "baseline without data", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus { return after(c, s, 0, nil, nil) },
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "no series", creates: 1, took: 0,
		},
		{
			name: "Prometheus down", prometheus: func(c *runnertest.Cluster, _ time.Time) fakePrometheus {
				return func(context.Context, string) ([]steadystate.Sample, error) { return nil, boom }
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "prometheus: boom", took: 0,
		},
		{
			name: "unknown host", edit: func(e *experiments.Experiment) { e.Spec.Target.Host = "raitngs" },
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "the mesh does not know the host raitngs.prod", took: 0,
		},
		{
			name: "API server down", cluster: func(c *runnertest.Cluster) { c.Fail("snapshot", boom) },
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "cannot be read: boom", took: 0,
		},
		{
			name: "not permitted", cluster: func(c *runnertest.Cluster) { c.Fail("check VirtualService", boom) },
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "the cluster would not create VirtualService shop/squall-ratings-a093b15a: boom", took: 0,
		},
		{
			name: "permission missing", cluster: func(c *runnertest.Cluster) { c.Fail("permitted in shop", boom) },
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "boom", took: 0,
		},
		{
			name: "denied everywhere", cluster: func(c *runnertest.Cluster) {
				for _, namespace := range []string{"shop", "prod"} {
					c.Fail("permitted in "+namespace, &runner.DeniedError{Namespace: namespace, Missing: []string{"create jobs.batch"}})
				}
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "shop: not permitted in namespace shop: create jobs.batch; prod: not permitted in namespace prod: create jobs.batch", took: 0,
		},
		{
			name: "routes change while the baseline is watched", cluster: func(c *runnertest.Cluster) {
				time.AfterFunc(time.Second, func() { addBase(c) })
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "the routes to the target have changed", creates: 1, took: 3 * time.Second,
		},
		{
			name: "Prometheus hangs", prometheus: func(c *runnertest.Cluster, _ time.Time) fakePrometheus {
				return func(ctx context.Context, _ string) ([]steadystate.Sample, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "prometheus: context deadline exceeded", took: 10 * time.Second,
		},
		{
			name: "no journal", failsAt: event.Planned{}.Type(),
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "no space left on device", took: 0,
		},
		{
			name: "heartbeat refused", cluster: func(c *runnertest.Cluster) { c.Fail("create Job", boom) },
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "heartbeat in shop: create Job", creates: 1, took: 0,
		},
		{
			name: "heartbeat not armed", cluster: func(c *runnertest.Cluster) { c.Fail("armed", boom) },
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "heartbeat in shop: boom", creates: 1, took: 0,
		},
		{
			name: "VirtualService refused", cluster: func(c *runnertest.Cluster) { c.Fail("create VirtualService", boom) },
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "create VirtualService shop/squall-ratings-a093b15a: boom", creates: 2, took: 3 * time.Second,
		},
		{
			name: "answer to create lost", cluster: func(c *runnertest.Cluster) {
				c.Fail("create VirtualService", boom)
				c.Lose("create VirtualService")
			},
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "boom", creates: 2, took: 6 * time.Second,
		},
		{
			name: "another run wins", cluster: func(c *runnertest.Cluster) {
				c.Fail("create VirtualService", &objects.TakenError{Object: objects.Ref{Kind: "VirtualService"}, Run: "other"})
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "run other already disturbs", creates: 2, took: 3 * time.Second,
		},
		{
			name: "deviation", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus { return after(c, s, 10*time.Second, low, nil) },
			status: event.StatusStopped, verdict: steadystate.Deviated, reason: "up: 0 is below 1", creates: 2, took: 20 * time.Second,
		},
		{
			name: "deviation that passes", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus {
				well := healthy(c)
				return func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if promql == "up" && time.Since(s) == 10*time.Second {
						return low, nil
					}
					return well(ctx, promql)
				}
			},
			status: event.StatusStopped, verdict: steadystate.Deviated, reason: "up: 0 is below 1", creates: 2, took: 13 * time.Second,
		},
		{
			name: "blind while the fault is in force", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus { return after(c, s, 10*time.Second, nil, boom) },
			status: event.StatusStopped, verdict: steadystate.Inconclusive, reason: "up: boom", creates: 2, took: 20 * time.Second,
		},
		{
			name: "not recovered", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus { return after(c, s, 23*time.Second, low, nil) },
			edit: func(e *experiments.Experiment) {
				e.Spec.SteadyState.Probes[0].Phases = []experiments.Phase{experiments.Before, experiments.After}
			},
			status: event.StatusCompleted, verdict: steadystate.Deviated, reason: "up (after): not recovered within 10s: 0 is below 1", creates: 2, took: 33 * time.Second,
		},
		{
			name: "no request hit", prometheus: func(c *runnertest.Cluster, _ time.Time) fakePrometheus {
				return func(_ context.Context, promql string) ([]steadystate.Sample, error) {
					if promql == "up" || promql == "time()" {
						return now(), nil
					}
					return []steadystate.Sample{runnertest.Target(now()[0].Value)}, nil
				}
			},
			status: event.StatusCompleted, verdict: steadystate.Inconclusive, reason: "the fault hit no request", creates: 2, took: 26 * time.Second,
		},
		{
			name: "no proxy of the callers is scraped", prometheus: func(c *runnertest.Cluster, _ time.Time) fakePrometheus {
				return func(_ context.Context, promql string) ([]steadystate.Sample, error) {
					if promql == "up" || promql == "time()" {
						return now(), nil
					}
					return nil, nil
				}
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "Prometheus has not scraped the callers'", creates: 1, took: time.Minute,
		},
		{
			name: "callers are not scraped", prometheus: func(c *runnertest.Cluster, _ time.Time) fakePrometheus {
				well := healthy(c)
				return func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if strings.Contains(promql, "timestamp(") {
						return scraped(0.5, flagged("FI", 1)), nil
					}
					return well(ctx, promql)
				}
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "has not scraped the callers", creates: 1, took: time.Minute,
		},
		{
			name: "callers are scraped late", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus {
				well := healthy(c)
				return func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if strings.Contains(promql, "timestamp(") && time.Since(s) < 10*time.Second {
						return scraped(0.5, flagged("FI", 1)), nil
					}
					return well(ctx, promql)
				}
			},
			status: event.StatusCompleted, verdict: steadystate.Held, creates: 2, took: 34 * time.Second,
		},
		{
			name: "too few requests hit", edit: func(e *experiments.Experiment) { e.Spec.Effect.MinRequests = 2001 },
			status: event.StatusCompleted, verdict: steadystate.Inconclusive, reason: "the fault hit 2000 requests; effect.minRequests asks for 2001", creates: 2, took: 26 * time.Second,
		},
		{
			name: "stop condition", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus {
				well := healthy(c)
				return func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if strings.HasPrefix(promql, "count(ALERTS") && time.Since(s) < 10*time.Second {
						return []steadystate.Sample{{Value: 0}}, nil
					}
					return well(ctx, promql)
				}
			},
			edit: func(e *experiments.Experiment) {
				e.Spec.StopConditions = []experiments.StopCondition{{Name: "no page", Alerts: map[string]string{"severity": "critical"}}}
			},
			status: event.StatusStopped, verdict: steadystate.Deviated, reason: "no page: 1 is above 0", creates: 2, took: 13 * time.Second,
		},
		{
			name: "fall below the baseline", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus {
				return after(c, s, 10*time.Second, []steadystate.Sample{{Value: 0.94}}, nil)
			},
			edit: func(e *experiments.Experiment) {
				share := experiments.Share(0.05)
				e.Spec.SteadyState.Probes[0].Min, e.Spec.SteadyState.Probes[0].MaxDrop = nil, &share
			},
			status: event.StatusStopped, verdict: steadystate.Deviated, reason: "up: 0.94 is below 0.95", creates: 2, took: 20 * time.Second,
		},
		{
			name: "no baseline to fall below", prometheus: func(c *runnertest.Cluster, s time.Time) fakePrometheus { return after(c, s, 0, nil, nil) },
			edit: func(e *experiments.Experiment) {
				share := experiments.Share(0.05)
				e.Spec.SteadyState.Probes[0].MaxDrop, e.Spec.SteadyState.Probes[0].NoData = &share, experiments.NoDataPass
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "the baseline has no value", creates: 1, took: 3 * time.Second,
		},
		{
			name: "outside the windows", edit: func(e *experiments.Experiment) {
				never := experiments.Schedule{TimeZone: "UTC", Windows: make([]experiments.Window, 1)}
				if err := never.Windows[0].UnmarshalText([]byte("Mon 09:00-10:00")); err != nil {
					panic(err)
				}
				e.Spec.Schedule = &never
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "the schedule permits no start now: Sat 00:00 UTC is outside the windows",
		},
		{
			name: "no hypothesis", edit: func(e *experiments.Experiment) { e.Spec.SteadyState.Probes = nil },
			status: event.StatusCompleted, verdict: steadystate.Inconclusive, reason: "no hypothesis was tested", creates: 2, took: 26 * time.Second,
		},
		{
			name: "interrupted before the fault", interrupt: 2500 * time.Millisecond,
			status: event.StatusInterrupted, verdict: steadystate.Inconclusive, reason: "interrupt signal received", creates: 1, took: 2500 * time.Millisecond,
		},
		{
			name: "interrupted with the fault in force", interrupt: 10500 * time.Millisecond,
			status: event.StatusInterrupted, verdict: steadystate.Inconclusive, reason: "interrupt signal received", creates: 2, took: 13500 * time.Millisecond,
		},
		{
			name: "heartbeat fails once", cluster: func(c *runnertest.Cluster) { c.Fail("extend to 20s", boom) },
			status: event.StatusCompleted, verdict: steadystate.Held, creates: 2, took: 26 * time.Second,
		},
		{
			name: "heartbeat fails for long", cluster: func(c *runnertest.Cluster) {
				c.Fail("extend to 20s", boom)
				c.Fail("extend to 25s", boom)
				c.Fail("extend to 30s", boom)
			},
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "heartbeat: Job shop/", creates: 2, took: 18 * time.Second,
		},
		{
			name: "rollback succeeds at the third attempt", cluster: func(c *runnertest.Cluster) { c.Fail("delete VirtualService", boom, boom) },
			status: event.StatusCompleted, verdict: steadystate.Held, creates: 2, took: 26300 * time.Millisecond,
		},
		{
			name: "journal breaks with the fault in force", failsAt: event.Measured{}.Type(), edit: func(e *experiments.Experiment) {
				e.Spec.SteadyState.Probes[0].Phases = []experiments.Phase{experiments.During}
			},
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "no space left on device", creates: 2, took: 7 * time.Second,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, start := newCluster(t), time.Now()
				if test.cluster != nil {
					test.cluster(c)
				}
				p := healthy(c)
				if test.prometheus != nil {
					p = test.prometheus(c, start)
				}
				interrupt := test.interrupt
				if interrupt == 0 {
					interrupt = forever
				}
				result := run(t, c, p, test.edit, &record{failsAt: test.failsAt}, interrupt)
				if result.Status != test.status || result.Verdict != test.verdict || !strings.Contains(result.Reason, test.reason) {
					t.Errorf("status %s, verdict %s, reason %q", result.Status, result.Verdict, result.Reason)
				}
				creates := 0
				for _, operation := range c.Log() {
					if strings.HasPrefix(operation, "create ") {
						creates++
					}
				}
				if creates != test.creates {
					t.Errorf("%d objects were created", creates)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("took %s instead of %s", took, test.took)
				}
			})
		})
	}
}

// A run without a heartbeat is recorded as such, and rolled back like any other.
func TestWithoutHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, rec := newCluster(t), &record{}
		c.WithoutHeartbeat = true
		e := experiment(t)
		r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(c), WithoutHeartbeat: true})
		result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, rec)
		if result.Verdict != steadystate.Held || len(c.Owned()) > 0 {
			t.Errorf("result %+v, left %v", result, c.Owned())
		}
		if started, ok := rec.events[0].(event.Started); !ok || !started.WithoutHeartbeat {
			t.Error("the record does not say that there is no heartbeat")
		}
		if slices.ContainsFunc(c.Log(), func(line string) bool { return strings.Contains(line, "Job") }) {
			t.Errorf("a Job was created: %v", c.Log())
		}
	})
}

// Expired objects of an earlier run are deleted before the run.
func TestExpiredObjectsAreSwept(t *testing.T) {
	for expiredFor, swept := range map[time.Duration]bool{time.Hour: true, -time.Hour: false} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			left := base("5s")
			left.SetNamespace("shop")
			left.SetName("squall-ratings-a093b15a")
			left.SetLabels(map[string]string{objects.ManagedByLabel: objects.ManagedByValue, objects.RunLabel: "dead"})
			left.SetAnnotations(map[string]string{
				objects.HostAnnotation: "ratings.prod.svc.cluster.local", objects.CallersAnnotation: "shop",
				objects.ExpiresAnnotation: time.Now().Add(-expiredFor).Format(time.RFC3339),
			})
			c.Edit(func(all map[string]*unstructured.Unstructured) { all[faultName] = left })
			e := experiment(t)
			r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(c)})
			result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, &record{})
			if swept != (result.Verdict == steadystate.Held) || swept != (len(c.Owned()) == 0) {
				t.Errorf("expired for %s: result %+v, left %v", expiredFor, result, c.Owned())
			}
		})
	}
}

func TestRollbackThatCannotFinishSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.FailAlways("delete VirtualService", errors.New("boom"))
		start := time.Now()
		result := run(t, c, healthy(c), nil, &record{}, forever)
		if len(result.Left) != 1 || result.Left[0].Kind != "VirtualService" {
			t.Errorf("left %v", result.Left)
		}
		if took := time.Since(start); took != 53*time.Second {
			t.Errorf("gave up after %s", took)
		}
	})
}

// A VirtualService that a finalizer keeps loses its fault at once. The result names the
// finalizer.
func TestRollbackTakesTheFaultOutOfWhatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		addBase(c)
		c.FailAlways("delete VirtualService", &objects.KeptError{Finalizers: []string{"example.com/keep"}})
		var began, withdrawn time.Time
		var hosts []string
		c.On("delete VirtualService", func() {
			if began.IsZero() {
				began = time.Now()
			}
			if object := c.Object(faultName); object != nil {
				hosts, _, _ = unstructured.NestedStringSlice(object.Object, "spec", "hosts")
			}
		})
		c.On("withdraw VirtualService", func() {
			if withdrawn.IsZero() {
				withdrawn = time.Now()
			}
		})
		result := run(t, c, healthy(c), nil, &record{}, forever)
		if len(result.Left) != 1 || !result.Left[0].Withdrawn || !slices.Equal(result.Left[0].Finalizers, []string{"example.com/keep"}) {
			t.Errorf("left %+v", result.Left)
		}
		if withdrawn.Sub(began) > time.Second {
			t.Errorf("the fault was taken out after %s", withdrawn.Sub(began))
		}
		if len(hosts) != 1 || strings.HasPrefix(hosts[0], "ratings.") {
			t.Errorf("hosts %v", hosts)
		}
	})
}

func TestRunIDsFitEverywhere(t *testing.T) {
	e := experiment(t)
	e.Metadata.Name = strings.Repeat("a", 63)
	r := runner.Config{Timing: runner.DefaultTiming()}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	one, two := r.NewRun(e, now), r.NewRun(e, now)
	if job := objects.Heartbeat("shop", one, time.Second, objects.HeartbeatImage).GetName(); len(job) > 63 {
		t.Errorf("%s has %d characters", job, len(job))
	}
	if one.ID == two.ID {
		t.Error("two runs have the same id")
	}
	if want := now.Add(3*time.Second + 20*time.Second + 30*time.Second); !one.Expires.Equal(want) {
		t.Errorf("expires %s", one.Expires)
	}
}

// A run whose baseline includes the end of another run names that run.
func TestARunThatFollowsAnotherOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		well, broken := healthy(c), false
		prometheus := fakePrometheus(func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
			if promql == "up" && broken {
				return []steadystate.Sample{{Value: 0}}, nil
			}
			return well(ctx, promql)
		})
		r := newRunner(t, runner.Config{Cluster: c, Querier: prometheus})
		e := experiment(t)
		first := r.NewRun(e, time.Now())
		if result := r.Run(t.Context(), first, e, &record{}); result.Verdict != steadystate.Held {
			t.Fatalf("result %+v", result)
		}
		broken = true
		for _, test := range []struct {
			pause  time.Duration
			reason string
		}{
			{12 * time.Second, "the hypothesis does not hold before the fault: up: 0 is below 1; run " + first.ID + " has ended 12s ago"},
			{time.Hour, "the hypothesis does not hold before the fault: up: 0 is below 1"},
		} {
			time.Sleep(test.pause)
			result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, &record{})
			if result.Status != event.StatusRefused || result.Reason != test.reason {
				t.Errorf("after %s: %s: %s", test.pause, result.Status, result.Reason)
			}
		}
	})
}

// A stop condition is not the hypothesis.
func TestAStopConditionBeforeTheFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, rec := newCluster(t), &record{}
		result := run(t, c, healthy(c), func(e *experiments.Experiment) {
			e.Spec.StopConditions = []experiments.StopCondition{{Name: "no page", Min: experiments.Number(2), Measure: experiments.Measure{Query: "pages"}}}
		}, rec, forever)
		if result.Status != event.StatusRefused || result.Reason != "a stop condition is missed before the fault: no page: 1 is below 2" {
			t.Errorf("%s: %s", result.Status, result.Reason)
		}
	})
}

// The plan in the record says that the callers may be misspelt.
func TestCallersThatDoNotCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, rec := newCluster(t), &record{}
		run(t, c, healthy(c), func(e *experiments.Experiment) {
			e.Spec.Callers[0].Labels = map[string]string{"app": "reviewz"}
		}, rec, forever)
		want := []string{"no caller in shop with app=reviewz has called ratings.prod.svc.cluster.local in the last hour; callers with app=reviews have"}
		for _, e := range rec.events {
			if planned, is := e.(event.Planned); is {
				if diff := cmp.Diff(want, planned.Warnings); diff != "" {
					t.Error(diff)
				}
				return
			}
		}
		t.Error("no plan is recorded")
	})
}

// A reason names the fault that was active, if there are several.
func TestReasonsNameTheFault(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*experiments.Experiment)
		want string
	}{
		"one fault": {func(*experiments.Experiment) {}, "up: 0 is below 1"},
		"two": {func(e *experiments.Experiment) {
			second := e.Spec.Faults[0]
			e.Spec.Faults[0].Duration.Duration = 5 * time.Second
			second.Name, second.StartAfter.Duration = "slowness", 5*time.Second
			e.Spec.Faults = append(e.Spec.Faults, second)
		}, "up: 0 is below 1 (while slowness was active)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, start := newCluster(t), time.Now()
				well := healthy(c)
				prometheus := fakePrometheus(func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if promql == "up" && time.Since(start) > 10*time.Second && time.Since(start) < 12*time.Second {
						return []steadystate.Sample{{Value: 0}}, nil
					}
					return well(ctx, promql)
				})
				result := run(t, c, prometheus, test.edit, &record{}, forever)
				if result.Status != event.StatusStopped || result.Reason != test.want {
					t.Errorf("%s: %s", result.Status, result.Reason)
				}
			})
		})
	}
}
