package runner_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/istio/config"
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
		APIVersion: "networking.istio.io/v1", ClusterDomain: "cluster.local", Settings: config.Settings{RootNamespace: "istio-system"},
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

// setBase sets a field in the spec of the effective VirtualService.
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

// fakePrometheus is a function from a query to its result.
type fakePrometheus func(ctx context.Context, promql string) ([]steadystate.Sample, error)

func (f fakePrometheus) Query(ctx context.Context, promql string) ([]steadystate.Sample, error) {
	return f(ctx, promql)
}

// flagged returns a counter of calls from shop to ratings.
func flagged(flags string, value float64) steadystate.Sample {
	return runnertest.Counter(flags, value)
}

// now is the result of time().
func now() []steadystate.Sample {
	return []steadystate.Sample{{Value: float64(time.Now().UnixMilli()) / 1000}}
}

// healthy returns 1 for every probe, and the calls of a cluster.
func healthy(c *runnertest.Cluster) fakePrometheus {
	return func(_ context.Context, promql string) ([]steadystate.Sample, error) {
		switch {
		case promql == "time()":
			return now(), nil
		case !strings.Contains(promql, "istio_requests_total"):
			return []steadystate.Sample{{Value: 1}}, nil
		}
		return c.Calls(), nil
	}
}

// scraped adds the times of their last scrape to counters.
func scraped(at float64, counters ...steadystate.Sample) []steadystate.Sample {
	return runnertest.Scraped(at, counters...)
}

// record keeps events. It fails from the first event of a type on.
type record struct {
	mu      sync.Mutex
	types   []string
	events  []event.Event
	phases  map[event.PhaseName]time.Time // when each began
	failsAt string
	broken  bool
}

func (r *record) Record(at time.Time, e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if phase, is := e.(event.Phase); is {
		if r.phases == nil {
			r.phases = map[event.PhaseName]time.Time{}
		}
		r.phases[phase.Name] = at
	}
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

// run carries out the experiment in fake time. No object of the run may be left.
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

func refOf(c *runnertest.Cluster, name string) objects.Ref { return objects.RefTo(c.Object(name)) }
