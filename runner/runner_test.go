package runner_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/runnertest"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// newCluster returns a cluster with a Service that callers in shop call.
func newCluster(t *testing.T) *runnertest.Cluster {
	t.Helper()
	return runnertest.New(t, config.Snapshot{
		APIVersion: "networking.istio.io/v1", ClusterDomain: "cluster.local", RootNamespace: "istio-system",
		Services:   []config.Service{{Namespace: "prod", Name: "ratings", Ports: []config.Port{{Number: 80, Name: "http", OfService: true}}}},
		Namespaces: map[string]map[string]string{"shop": {}, "prod": {}},
	})
}

// The VirtualService that is effective for the callers, and the one of a run.
const (
	baseName  = "VirtualService prod/ratings"
	faultName = "VirtualService shop/squall-ratings-a093b15a"
)

// base is the effective VirtualService with a timeout.
func base(timeout string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{"namespace": "prod", "name": "ratings", "uid": "base", "generation": int64(1)},
		"spec": map[string]any{
			"hosts": []any{"ratings.prod.svc.cluster.local"},
			"http":  []any{map[string]any{"timeout": timeout, "route": []any{map[string]any{"destination": map[string]any{"host": "ratings.prod.svc.cluster.local"}}}}},
		},
	}}
}

// addBase creates the effective VirtualService.
func addBase(c *runnertest.Cluster) {
	c.Edit(func(all map[string]*unstructured.Unstructured) { all[baseName] = base("5s") })
}

// setBase gives the effective VirtualService a new field of its spec.
func setBase(c *runnertest.Cluster, field string, value any) {
	c.Edit(func(all map[string]*unstructured.Unstructured) {
		object := all[baseName].DeepCopy()
		object.Object["spec"].(map[string]any)[field] = value
		object.SetGeneration(object.GetGeneration() + 1)
		all[baseName] = object
	})
}

// setTimeout changes the timeout of the effective VirtualService.
func setTimeout(c *runnertest.Cluster, timeout string) {
	http := base(timeout).Object["spec"].(map[string]any)["http"]
	setBase(c, "http", http)
}

// fakePrometheus answers by a function of the query.
type fakePrometheus func(ctx context.Context, promql string) ([]steadystate.Sample, error)

func (f fakePrometheus) Query(ctx context.Context, promql string) ([]steadystate.Sample, error) {
	return f(ctx, promql)
}

// flagged makes a counter of calls from shop to ratings.
func flagged(flags string, value float64) steadystate.Sample {
	return steadystate.Sample{Value: value, Labels: map[string]string{
		"response_flags": flags, "destination_service": "ratings.prod.svc.cluster.local", "source_workload_namespace": "shop", "source_app": "reviews",
	}}
}

// now is the time of a Prometheus that scrapes all the time.
func now() []steadystate.Sample {
	return []steadystate.Sample{{Value: float64(time.Now().UnixMilli()) / 1000}}
}

// healthy answers 1 to every probe, and counts a hundred more requests hit
// each time that it is asked.
func healthy() fakePrometheus {
	var mu sync.Mutex
	hit := 0.0
	return func(_ context.Context, promql string) ([]steadystate.Sample, error) {
		switch {
		case promql == "time()":
			return now(), nil
		case !strings.Contains(promql, "istio_requests_total"):
			return []steadystate.Sample{{Value: 1}}, nil
		}
		mu.Lock()
		defer mu.Unlock()
		hit += 100
		return scraped(now()[0].Value, flagged("DI,FI", hit)), nil
	}
}

// scraped adds to counters when they were read.
func scraped(at float64, counters ...steadystate.Sample) []steadystate.Sample {
	all := slices.Clone(counters)
	for _, counter := range counters {
		labels := maps.Clone(counter.Labels)
		labels["squall"] = "scraped"
		all = append(all, steadystate.Sample{Labels: labels, Value: at})
	}
	return all
}

// record keeps events, and fails from the given event on.
type record struct {
	mu      sync.Mutex
	types   []string
	events  []event.Event
	failsAt string
	broken  bool
}

func (r *record) Record(_ time.Time, e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Type() == r.failsAt {
		r.broken = true
	}
	if r.broken {
		return errors.New("no space left on device")
	}
	r.types, r.events = append(r.types, e.Type()), append(r.events, e)
	return nil
}

func experiment(t *testing.T) experiments.Experiment {
	t.Helper()
	loaded, err := files.Load("test.yaml", strings.NewReader(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: outage}
spec:
  target: {host: ratings, namespace: prod}
  callers: [{namespace: shop}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 20s
  steadyState: {interval: 1s, before: 3s, probes: [{name: up, query: up, min: 1}]}
  recovery: {within: 10s}
`))
	if err != nil {
		t.Fatal(err)
	}
	return loaded[0]
}

// newRunner returns a runner with the default timing.
func newRunner(t *testing.T, config runner.Config) *runner.Runner {
	t.Helper()
	config.Timing = runner.DefaultTiming()
	r, err := runner.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run carries out the experiment in a bubble of fake time, and checks what
// must be true whatever happens: nothing of the run is left.
func run(t *testing.T, c *runnertest.Cluster, p fakePrometheus, edit func(*experiments.Experiment), rec *record, deadline time.Duration) (result event.Result) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), deadline, errors.New("interrupt signal received"))
	defer cancel()
	e := experiment(t)
	if edit != nil {
		edit(&e)
	}
	r := newRunner(t, runner.Config{Cluster: c, Querier: p, Owner: "ann@laptop"})
	result = r.Run(ctx, r.NewRun(e, time.Now()), e, rec)
	if len(result.Left) == 0 {
		for _, name := range c.Owned() {
			t.Errorf("%s is left", name)
		}
	}
	return result
}

const forever = 24 * time.Hour

func TestARunThatHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, rec := newCluster(t), &record{}
		start := time.Now()
		result := run(t, c, healthy(), nil, rec, forever)
		if result.Status != event.StatusCompleted || result.Verdict != steadystate.Held || result.Reason != "" {
			t.Errorf("result %+v", result)
		}
		if took := time.Since(start); took != 23*time.Second {
			t.Errorf("took %s beside the 23s that the file asks for", took)
		}
		want := []string{
			"snapshot", "permitted in shop", "check Job", "check VirtualService", "snapshot", "create Job", "armed", "create VirtualService",
			"extend to 20s", "extend to 25s", "extend to 30s", "delete VirtualService", "delete Job",
		}
		if diff := cmp.Diff(want, slices.DeleteFunc(c.Log(), func(s string) bool { return s == "extend to 35s" })); diff != "" {
			t.Error(diff)
		}
		order := slices.DeleteFunc(slices.Clone(rec.types), func(s string) bool { return s == event.Measured{}.Type() || s == event.Counted{}.Type() })
		wantOrder := []string{
			"started", "phase", "planned", "phase", "phase", "creating", "created", "creating", "created", "phase",
			"phase", "deleted", "deleted", "phase", "phase", "effect", "finished",
		}
		if diff := cmp.Diff(wantOrder, order); diff != "" {
			t.Error(diff)
		}
	})
}

// The journal says what is about to be created before it is.
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
		run(t, c, healthy(), nil, rec, forever)
	})
}

func TestEndings(t *testing.T) {
	boom := errors.New("boom")
	// after gives another answer to the probe from a moment on.
	after := func(start time.Time, d time.Duration, samples []steadystate.Sample, err error) fakePrometheus {
		well := healthy()
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
		prometheus func(start time.Time) fakePrometheus
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
			name: "baseline not held", prometheus: func(s time.Time) fakePrometheus { return after(s, 2*time.Second, low, nil) },
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "does not hold before the fault: up: 0 is below 1", took: 2 * time.Second,
		},
		{
			name: "baseline without data", prometheus: func(s time.Time) fakePrometheus { return after(s, 0, nil, nil) },
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "no series", took: 0,
		},
		{
			name: "Prometheus down", prometheus: func(time.Time) fakePrometheus {
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
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "the routes to the target have changed", took: 3 * time.Second,
		},
		{
			name: "Prometheus hangs", prometheus: func(time.Time) fakePrometheus {
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
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "heartbeat in shop: create Job", creates: 1, took: 3 * time.Second,
		},
		{
			name: "heartbeat not armed", cluster: func(c *runnertest.Cluster) { c.Fail("armed", boom) },
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "heartbeat in shop: boom", creates: 1, took: 3 * time.Second,
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
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "boom", creates: 2, took: 3 * time.Second,
		},
		{
			name: "another run wins", cluster: func(c *runnertest.Cluster) {
				c.Fail("create VirtualService", &runner.TakenError{Object: objects.Ref{Kind: "VirtualService"}, Run: "other"})
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "run other already disturbs", creates: 2, took: 3 * time.Second,
		},
		{
			name: "deviation", prometheus: func(s time.Time) fakePrometheus { return after(s, 10*time.Second, low, nil) },
			status: event.StatusStopped, verdict: steadystate.Deviated, reason: "up: 0 is below 1", creates: 2, took: 20 * time.Second,
		},
		{
			name: "deviation that passes", prometheus: func(s time.Time) fakePrometheus {
				well := healthy()
				return func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if promql == "up" && time.Since(s) == 10*time.Second {
						return low, nil
					}
					return well(ctx, promql)
				}
			},
			status: event.StatusStopped, verdict: steadystate.Deviated, reason: "up: 0 is below 1", creates: 2, took: 11 * time.Second,
		},
		{
			name: "blind while the fault is in force", prometheus: func(s time.Time) fakePrometheus { return after(s, 10*time.Second, nil, boom) },
			status: event.StatusStopped, verdict: steadystate.Inconclusive, reason: "up: boom", creates: 2, took: 20 * time.Second,
		},
		{
			name: "not recovered", prometheus: func(s time.Time) fakePrometheus { return after(s, 23*time.Second, low, nil) },
			edit: func(e *experiments.Experiment) {
				e.Spec.SteadyState.Probes[0].Phases = []experiments.Phase{experiments.Before, experiments.After}
			},
			status: event.StatusCompleted, verdict: steadystate.Deviated, reason: "up (after): not recovered within 10s: 0 is below 1", creates: 2, took: 33 * time.Second,
		},
		{
			name: "no request hit", prometheus: func(time.Time) fakePrometheus {
				return func(_ context.Context, promql string) ([]steadystate.Sample, error) {
					if promql == "up" || promql == "time()" {
						return []steadystate.Sample{{Value: 1}}, nil
					}
					return nil, nil
				}
			},
			status: event.StatusCompleted, verdict: steadystate.Inconclusive, reason: "the fault hit no request", creates: 2, took: 33 * time.Second,
		},
		{
			name: "callers are not scraped", prometheus: func(time.Time) fakePrometheus {
				well := healthy()
				return func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if strings.Contains(promql, "timestamp(") {
						return scraped(0.5, flagged("FI", 1)), nil
					}
					return well(ctx, promql)
				}
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "has not scraped the callers", took: 63 * time.Second,
		},
		{
			name: "callers are scraped late", prometheus: func(s time.Time) fakePrometheus {
				well := healthy()
				return func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if strings.Contains(promql, "timestamp(") && time.Since(s) < 10*time.Second {
						return scraped(0.5, flagged("FI", 1)), nil
					}
					return well(ctx, promql)
				}
			},
			status: event.StatusCompleted, verdict: steadystate.Held, creates: 2, took: 30 * time.Second,
		},
		{
			name: "too few requests hit", edit: func(e *experiments.Experiment) { e.Spec.Effect.MinRequests = 2101; e.Spec.Recovery.Within.Duration = 1 },
			status: event.StatusCompleted, verdict: steadystate.Held, creates: 2, took: 24 * time.Second,
		},
		{
			name: "stop condition", prometheus: func(s time.Time) fakePrometheus {
				well := healthy()
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
			status: event.StatusStopped, verdict: steadystate.Deviated, reason: "no page: 1 is above 0", creates: 2, took: 10 * time.Second,
		},
		{
			name: "fall below the baseline", prometheus: func(s time.Time) fakePrometheus {
				return after(s, 10*time.Second, []steadystate.Sample{{Value: 0.94}}, nil)
			},
			edit: func(e *experiments.Experiment) {
				share := experiments.Share(0.05)
				e.Spec.SteadyState.Probes[0].Min, e.Spec.SteadyState.Probes[0].MaxDrop = nil, &share
			},
			status: event.StatusStopped, verdict: steadystate.Deviated, reason: "up: 0.94 is below 0.95", creates: 2, took: 20 * time.Second,
		},
		{
			name: "no baseline to fall below", prometheus: func(s time.Time) fakePrometheus { return after(s, 0, nil, nil) },
			edit: func(e *experiments.Experiment) {
				share := experiments.Share(0.05)
				e.Spec.SteadyState.Probes[0].MaxDrop, e.Spec.SteadyState.Probes[0].NoData = &share, experiments.NoDataPass
			},
			status: event.StatusRefused, verdict: steadystate.Inconclusive, reason: "the baseline has no value", took: 3 * time.Second,
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
			status: event.StatusCompleted, verdict: steadystate.Inconclusive, reason: "no hypothesis was tested", creates: 2, took: 23 * time.Second,
		},
		{
			name: "interrupted before the fault", interrupt: 2500 * time.Millisecond,
			status: event.StatusInterrupted, verdict: steadystate.Inconclusive, reason: "interrupt signal received", took: 2500 * time.Millisecond,
		},
		{
			name: "interrupted with the fault in force", interrupt: 10500 * time.Millisecond,
			status: event.StatusInterrupted, verdict: steadystate.Inconclusive, reason: "interrupt signal received", creates: 2, took: 10500 * time.Millisecond,
		},
		{
			name: "heartbeat fails once", cluster: func(c *runnertest.Cluster) { c.Fail("extend to 20s", boom) },
			status: event.StatusCompleted, verdict: steadystate.Held, creates: 2, took: 23 * time.Second,
		},
		{
			name: "heartbeat fails twice", cluster: func(c *runnertest.Cluster) {
				c.Fail("extend to 20s", boom)
				c.Fail("extend to 25s", boom)
			},
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "heartbeat: Job shop/", creates: 2, took: 13 * time.Second,
		},
		{
			name: "rollback succeeds at the third attempt", cluster: func(c *runnertest.Cluster) { c.Fail("delete VirtualService", boom, boom) },
			status: event.StatusCompleted, verdict: steadystate.Held, creates: 2, took: 23300 * time.Millisecond,
		},
		{
			name: "journal breaks with the fault in force", failsAt: event.Measured{}.Type(), edit: func(e *experiments.Experiment) {
				e.Spec.SteadyState.Probes[0].Phases = []experiments.Phase{experiments.During}
			},
			status: event.StatusFailed, verdict: steadystate.Inconclusive, reason: "no space left on device", creates: 2, took: 4 * time.Second,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, start := newCluster(t), time.Now()
				if test.cluster != nil {
					test.cluster(c)
				}
				p := healthy()
				if test.prometheus != nil {
					p = test.prometheus(start)
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

// A Job that vanishes takes the fault along, so the run must not go on as if
// the fault were in force.
func TestTheHeartbeatVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		time.AfterFunc(12*time.Second, func() {
			c.Edit(func(all map[string]*unstructured.Unstructured) {
				maps.DeleteFunc(all, func(_ string, o *unstructured.Unstructured) bool { return o.GetKind() == "Job" })
			})
		})
		start := time.Now()
		result := run(t, c, healthy(), nil, &record{}, forever)
		if result.Status != event.StatusInterrupted || !strings.Contains(result.Reason, "were deleted from outside") || time.Since(start) > 12*time.Second+100*time.Millisecond {
			t.Errorf("result %+v after %s", result, time.Since(start))
		}
	})
}

// Somebody deletes or edits the fault: the run must not go on as if it were in
// force, or as it was asked.
func TestDrift(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(all map[string]*unstructured.Unstructured)
		want string
	}{
		"deleted": {func(all map[string]*unstructured.Unstructured) { delete(all, faultName) }, "was deleted while the fault was active"},
		"edited":  {func(all map[string]*unstructured.Unstructured) { all[faultName].SetGeneration(2) }, "was changed while the fault was active"},
		"replaced": {func(all map[string]*unstructured.Unstructured) {
			all[faultName].SetUID("other")
			all[faultName].SetLabels(nil)
		}, "was deleted while the fault was active"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				time.AfterFunc(6500*time.Millisecond, func() { c.Edit(test.do) })
				start := time.Now()
				e := experiment(t)
				r := newRunner(t, runner.Config{Cluster: c, Querier: healthy()})
				result := r.Run(t.Context(), r.NewRun(e, start), e, &record{})
				if result.Status != event.StatusStopped || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, test.want) {
					t.Errorf("result %+v", result)
				}
				if took := time.Since(start); took > 6600*time.Millisecond {
					t.Errorf("noticed after %s", took)
				}
			})
		})
	}
}

// faults gives the timeout of the only route of our object, and its fault.
func faults(c *runnertest.Cluster) (timeout, fault any) {
	http, _, _ := unstructured.NestedSlice(c.Object(faultName).Object, "spec", "http")
	route, _ := http[0].(map[string]any)
	return route["timeout"], route["fault"]
}

// Somebody ends the run from another machine.
func TestTheKillSwitch(t *testing.T) {
	for name, test := range map[string]struct {
		pull func(all map[string]*unstructured.Unstructured)
		want string
	}{
		"by squall rollback": {func(all map[string]*unstructured.Unstructured) {
			for _, object := range all {
				if object.GetKind() == "Job" {
					object.SetAnnotations(map[string]string{objects.StoppedByAnnotation: "bob@desk"})
				}
			}
		}, "rolled back by bob@desk"},
		"with its Job": {func(all map[string]*unstructured.Unstructured) {
			maps.DeleteFunc(all, func(_ string, o *unstructured.Unstructured) bool { return o.GetKind() == "Job" })
		}, "were deleted from outside"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				time.AfterFunc(6500*time.Millisecond, func() {
					c.Edit(func(all map[string]*unstructured.Unstructured) {
						test.pull(all)
						delete(all, faultName)
					})
				})
				result := run(t, c, healthy(), nil, &record{}, forever)
				if result.Status != event.StatusInterrupted || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, test.want) {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// A run without a heartbeat says so, and is rolled back as any other.
func TestWithoutHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, rec := newCluster(t), &record{}
		c.WithoutHeartbeat = true
		e := experiment(t)
		r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(), WithoutHeartbeat: true})
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

// What a run has left behind whose time is over stands in nobody's way.
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
			r := newRunner(t, runner.Config{Cluster: c, Querier: healthy()})
			result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, &record{})
			if swept != (result.Verdict == steadystate.Held) || swept != (len(c.Owned()) == 0) {
				t.Errorf("expired for %s: result %+v, left %v", expiredFor, result, c.Owned())
			}
		})
	}
}

// changeBase adds the effective VirtualService, and changes it while the fault is
// active.
func changeBase(c *runnertest.Cluster, change func(*runnertest.Cluster)) {
	addBase(c)
	time.AfterFunc(6500*time.Millisecond, func() { change(c) })
}

// The routes that a shadow was derived from change while it is in force.
func TestABaseThatChangesIsFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*runnertest.Cluster)
		ends   string // why the run ends, or nothing when it goes on
	}{
		"another timeout": {func(c *runnertest.Cluster) { setTimeout(c, "7s") }, ""},
		"its status":      {func(c *runnertest.Cluster) { c.Touch(baseName) }, ""},
		"private":         {func(c *runnertest.Cluster) { setBase(c, "exportTo", []any{"shop"}) }, ""},
		"a redirect": {func(c *runnertest.Cluster) {
			setBase(c, "http", []any{map[string]any{"redirect": map[string]any{"uri": "/x"}}})
		}, "cannot follow: no http route"},
		"for another host": {func(c *runnertest.Cluster) { setBase(c, "hosts", []any{"other"}) }, "other routes are effective now"},
		"deleted": {func(c *runnertest.Cluster) {
			c.Edit(func(all map[string]*unstructured.Unstructured) { delete(all, baseName) })
		}, "was deleted"},
		"our status changed": {func(c *runnertest.Cluster) { c.Touch(faultName); setTimeout(c, "7s") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				changeBase(c, test.change)
				time.AfterFunc(8*time.Second, func() {
					if test.ends != "" {
						return
					}
					want := c.Object(baseName).Object["spec"].(map[string]any)["http"].([]any)[0].(map[string]any)["timeout"]
					if timeout, fault := faults(c); timeout != want || fault == nil {
						t.Errorf("timeout %v, fault %v", timeout, fault)
					}
				})
				result := run(t, c, healthy(), nil, &record{}, forever)
				if test.ends == "" && result.Verdict != steadystate.Held || !strings.Contains(result.Reason, test.ends) {
					t.Errorf("result %+v", result)
				}
				if test.ends != "" && (result.Status != event.StatusStopped || result.Verdict != steadystate.Inconclusive) {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// What may not be disturbed is not, either, when the routes come to lead there
// while the fault is in force.
func TestAFaultFollowsOnlyWhereItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const payments = "payments.prod.svc.cluster.local"
		c := newCluster(t)
		changeBase(c, func(c *runnertest.Cluster) {
			setBase(c, "http", []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": payments}}}}})
		})
		e := experiment(t)
		r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(), Permit: func(p mesh.Plan) error {
			if slices.ContainsFunc(p.Decisions, func(d mesh.Decision) bool { return slices.Contains(d.Signature.Destinations, payments) }) {
				return errors.New("payments is protected")
			}
			return nil
		}})
		result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, &record{})
		if result.Status != event.StatusStopped || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "cannot follow: payments is protected") || result.Injected.Duration > 4*time.Second {
			t.Errorf("result %+v", result)
		}
	})
}

// Faults with times of their own start and end while the object stands.
func TestFaultsStartAndEndAtTheirTimes(t *testing.T) {
	for name, failures := range map[string][]error{"smoothly": nil, "though an update fails": {errors.New("boom"), nil}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, rec := newCluster(t), &record{}
				if failures != nil {
					c.Fail("update VirtualService", failures...)
				}
				delay := experiments.Percentage(100)
				edit := func(e *experiments.Experiment) {
					e.Spec.Faults[0].StartAfter.Duration = 5 * time.Second
					e.Spec.Faults = append(e.Spec.Faults, experiments.Fault{
						Delay: &experiments.Delay{FixedDelay: experiments.Duration{Duration: time.Second}}, Percentage: &delay,
						Duration: experiments.Duration{Duration: 10 * time.Second},
					})
				}
				var mu sync.Mutex
				seen := map[time.Duration]string{}
				for _, at := range []time.Duration{1, 4, 6, 9, 11, 19} {
					// The fault is in force from 3 s on.
					time.AfterFunc(3*time.Second+at*time.Second, func() {
						_, fault := faults(c)
						kinds, _ := fault.(map[string]any)
						mu.Lock()
						defer mu.Unlock()
						seen[at] = fmt.Sprint(slices.Sorted(maps.Keys(kinds)))
					})
				}
				result := run(t, c, healthy(), edit, rec, forever)
				mu.Lock() // orders what the timers have seen before this
				defer mu.Unlock()
				if result.Verdict != steadystate.Held {
					t.Errorf("result %+v", result)
				}
				want := map[time.Duration]string{1: "[delay]", 4: "[delay]", 6: "[abort delay]", 9: "[abort delay]", 11: "[abort]", 19: "[abort]"}
				if diff := cmp.Diff(want, seen); diff != "" {
					t.Error(diff)
				}
				if !slices.Contains(rec.types, (event.Updating{}).Type()) || !slices.Contains(rec.types, (event.Updated{}).Type()) {
					t.Errorf("events %v", rec.types)
				}
			})
		})
	}
}

func TestRollbackThatCannotFinishSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.FailAlways("delete VirtualService", errors.New("boom"))
		start := time.Now()
		result := run(t, c, healthy(), nil, &record{}, forever)
		if len(result.Left) != 1 || result.Left[0].Kind != "VirtualService" {
			t.Errorf("left %v", result.Left)
		}
		if took := time.Since(start); took != 53*time.Second {
			t.Errorf("gave up after %s", took)
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

// An update that the cluster refuses, or does not answer for long, ends the run:
// the fault is not left as it should not be any more.
func TestAnUpdateThatFailsEndsTheRun(t *testing.T) {
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		failures []error
		lost     bool
		restless bool
		status   event.Status
	}{
		"refused":               {[]error{fmt.Errorf("%w: forbidden", runner.ErrRejected)}, false, false, event.StatusFailed},
		"not answered for long": {slices.Repeat([]error{boom}, 32), false, false, event.StatusFailed},
		"not answered for long, while much is seen": {slices.Repeat([]error{boom}, 32), false, true, event.StatusFailed},
		"the answer is lost":                        {[]error{boom}, true, false, event.StatusCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, rec := newCluster(t), &record{}
				c.Fail("update VirtualService", test.failures...)
				if test.lost {
					c.Lose("update VirtualService")
				}
				c.Restless = test.restless
				start := time.Now()
				result := run(t, c, healthy(), func(e *experiments.Experiment) { e.Spec.Faults[0].Duration.Duration = 2 * time.Second }, rec, forever)
				if result.Status != test.status {
					t.Errorf("result %+v", result)
				}
				if !slices.Contains(rec.types, (event.UpdateFailed{}).Type()) {
					t.Errorf("the record does not say so: %v", rec.types)
				}
				if test.status == event.StatusFailed && time.Since(start) > 22*time.Second {
					t.Errorf("the fault stayed for %s", time.Since(start))
				}
				c.StopFailing()
			})
		})
	}
}

// Failures of the target itself prove nothing about a blackhole.
// A counter that is no number would make every request since it began one that
// the fault has hit.
func TestCountersMustBeNumbers(t *testing.T) {
	for name, test := range map[string]struct {
		counts []float64
		status event.Status
	}{
		"before the fault":    {[]float64{math.NaN(), 500}, event.StatusRefused},
		"without bounds":      {[]float64{math.Inf(-1), 500}, event.StatusRefused},
		"after the fault":     {[]float64{100, math.NaN()}, event.StatusCompleted},
		"without bounds then": {[]float64{100, math.Inf(1)}, event.StatusCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				counted := 0
				lying := fakePrometheus(func(_ context.Context, promql string) ([]steadystate.Sample, error) {
					switch {
					case !strings.Contains(promql, "istio_requests_total"):
						return []steadystate.Sample{{Value: 1}}, nil
					case strings.HasPrefix(promql, "min("):
						return nil, nil
					}
					count := test.counts[min(counted, len(test.counts)-1)]
					counted++
					return []steadystate.Sample{flagged("FI", count)}, nil
				})
				result := run(t, newCluster(t), lying, nil, &record{}, forever)
				if result.Status != test.status || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "cannot be counted: Prometheus returned") {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

func TestOrdinaryFailuresAreNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0.0
		ordinary := fakePrometheus(func(_ context.Context, promql string) ([]steadystate.Sample, error) {
			if !strings.Contains(promql, "istio_requests_total") {
				return []steadystate.Sample{{Value: 1}}, nil
			}
			if strings.Contains(promql, "min(") || !strings.Contains(promql, "ratings.prod") {
				return nil, nil
			}
			calls++
			return []steadystate.Sample{flagged("DC", calls)}, nil
		})
		result := run(t, newCluster(t), ordinary, func(e *experiments.Experiment) {
			all := experiments.Percentage(100)
			e.Spec.Faults = []experiments.Fault{{Blackhole: &experiments.Blackhole{Mode: experiments.Reject}, Percentage: &all}}
		}, &record{}, forever)
		if result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "hit no request") {
			t.Errorf("result %+v", result)
		}
	})
}
