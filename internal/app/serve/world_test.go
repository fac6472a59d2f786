package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/serve/history"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/runnertest"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// injection is a VirtualService that a run has created.
type injection struct {
	run, experiment, host, callers string
	from, to                       time.Time
}

// sharedMesh is a cluster that several replicas share. It keeps the injections of
// all runs.
type sharedMesh struct {
	*runnertest.Cluster
	injected injected
}

type injected struct {
	mu sync.Mutex
	// all are the injections so far, and live those in the cluster, by the name of
	// their object.
	live map[string]*injection
	all  []*injection
	// problems are the violations of promises.
	problems []string
}

func newSharedMesh(t *testing.T) *sharedMesh {
	t.Helper()
	snapshot := config.Snapshot{
		APIVersion: "networking.istio.io/v1", ClusterDomain: "cluster.local", Settings: config.Settings{RootNamespace: "istio-system"},
		Namespaces: map[string]map[string]string{"shop": {}, "cart": {}, "prod": {}, "payments": {}},
	}
	for _, name := range []string{"ratings", "reviews", "details"} {
		snapshot.Services = append(snapshot.Services, config.Service{Namespace: "prod", Name: name, Ports: []config.Port{{Number: 80, Name: "http", OfService: true}}})
	}
	m := &sharedMesh{Cluster: runnertest.New(t, snapshot), injected: injected{live: map[string]*injection{}}}
	m.Created, m.Deleted = m.injected.add, m.injected.end
	m.Forbid("update VirtualService") // no test has a plan with steps
	return m
}

// add keeps an object that was created.
func (i *injected) add(object *unstructured.Unstructured) {
	if object.GetKind() != objects.KindVirtualService {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	hosts, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "hosts")
	run := object.GetLabels()[objects.RunLabel]
	for _, other := range i.live {
		if other.host == hosts[0] && other.run != run {
			i.problems = append(i.problems, fmt.Sprintf("%s: %s and %s both disturb %s", time.Now(), other.run, run, hosts[0]))
		}
	}
	experiment := run[len(event.IDTime)+1 : strings.LastIndex(run, "-")]
	one := &injection{run: run, experiment: experiment, host: hosts[0], callers: object.GetNamespace(), from: time.Now()}
	i.live[objects.RefTo(object).String()] = one
	i.all = append(i.all, one)
}

// end keeps that an object is gone since a time.
func (i *injected) end(object *unstructured.Unstructured, at time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	name := objects.RefTo(object).String()
	if one := i.live[name]; one != nil {
		one.to = at
		delete(i.live, name)
	}
}

// injections returns all injections so far, the names of the objects that exist, and
// what must not have happened.
func (m *sharedMesh) injections() (all []injection, live, problems []string) {
	m.Owned() // what has expired is gone
	m.injected.mu.Lock()
	defer m.injected.mu.Unlock()
	for _, one := range m.injected.all {
		all = append(all, *one)
	}
	return all, slices.Sorted(maps.Keys(m.injected.live)), slices.Clone(m.injected.problems)
}

var errCut = errors.New("no route to host")

// reach fails while the replica is cut off.
func (r *process) reach(context.Context) error {
	if r.cut.Load() {
		return errCut
	}
	return nil
}

// sharedText is a text that replicas share.
type sharedText struct {
	mu   sync.Mutex
	text string
}

// way is one replica's access to the text.
type way struct {
	*sharedText
	cut *atomic.Bool
	// fate returns how long a call takes, whether it takes effect, and its error.
	fate func(write bool) (takes time.Duration, effect bool, err error)
}

func (w *way) travel(ctx context.Context, write bool) (effect bool, err error) {
	if w.cut.Load() {
		return false, errCut
	}
	if w.fate == nil {
		return true, nil
	}
	takes, effect, err := w.fate(write)
	if !sleep.For(ctx, takes) {
		return false, ctx.Err()
	}
	return effect, err
}

func (w *way) Read(ctx context.Context) (string, error) {
	_, err := w.travel(ctx, false)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text, err
}

func (w *way) Change(ctx context.Context, change func(string) (string, error)) error {
	effect, failure := w.travel(ctx, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	text, err := change(w.text)
	if err == nil && effect {
		w.text = text
	}
	return cmp.Or(err, failure)
}

// tally keeps the metrics.
type tally struct {
	mu sync.Mutex
	counts
}

type counts struct {
	starts   map[string]int
	skips    map[string]int // by experiment and reason
	finished map[string]int // by experiment and status
	reasons  []string
	swept    []error
	leads    bool
	paused   bool
	faults   int // active
}

// counted returns a copy of the counts, to read while a server goes on counting.
func (y *tally) counted() counts {
	y.mu.Lock()
	defer y.mu.Unlock()
	c := y.counts
	c.starts, c.skips, c.finished = maps.Clone(c.starts), maps.Clone(c.skips), maps.Clone(c.finished)
	c.reasons, c.swept = slices.Clone(c.reasons), slices.Clone(c.swept)
	return c
}

func (y *tally) Started(experiment string, _ time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.starts[experiment]++
}

func (y *tally) Finished(experiment string, result event.Result, _ time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.finished[experiment+" "+string(result.Status)]++
	y.reasons = append(y.reasons, result.Reason)
}

func (y *tally) Skipped(experiment string, reason scheduler.Reason) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.skips[experiment+" "+string(reason)]++
}
func (y *tally) NextStart(string, time.Time, bool) {}
func (y *tally) Forget(string)                     {}
func (y *tally) Live(_, faults int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.faults = faults
}

func (y *tally) Swept(_ int, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.swept = append(y.swept, err)
}
func (y *tally) Reloaded(time.Time, int, int) {}
func (y *tally) Leading(leads bool)           { y.mu.Lock(); y.leads = leads; y.mu.Unlock() }
func (y *tally) Paused(paused bool)           { y.mu.Lock(); y.paused = paused; y.mu.Unlock() }

// world is a cluster with replicas.
type world struct {
	*tally
	t       *testing.T
	mesh    *sharedMesh
	text    *sharedText
	dir     string
	out     string
	limits  scheduler.Limits
	active  []objects.ActiveRun // in the cluster
	removed []string
	sent    []notify.Event
	events  []string
	emit    func(ctx context.Context) error
	fate    func(write bool) (time.Duration, bool, error)
	lookErr error
	began   startLog
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{
		t: t, dir: t.TempDir(), out: filepath.Join(t.TempDir(), "out"), text: &sharedText{}, limits: scheduler.Limits{MaxConcurrent: 4, MaxPerNamespace: 4},
		mesh:  newSharedMesh(t),
		tally: &tally{counts: counts{starts: map[string]int{}, skips: map[string]int{}, finished: map[string]int{}}},
	}
}

// process is one replica.
type process struct {
	*Server
	cut  atomic.Bool
	stop func() // and waits until all its goroutines have ended
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// ActiveRuns implements runs.Cluster.
func (w *world) ActiveRuns(context.Context) ([]objects.ActiveRun, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.active), w.lookErr
}

// Remove implements runs.Cluster.
func (w *world) Remove(_ context.Context, active []objects.ActiveRun, owner string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, run := range active {
		w.removed = append(w.removed, run.ID+" by "+owner)
		w.active = slices.DeleteFunc(w.active, func(a objects.ActiveRun) bool { return a.ID == run.ID })
	}
	return nil
}

// replica returns a process that does nothing yet. Changes are made to its
// configuration first.
func (w *world) replica(identity string, changes ...func(*Config)) *process {
	r := &process{stop: func() {}}
	c := Config{
		Directory: w.dir, Limits: w.limits, History: history.Config{Directory: w.out}, Identity: identity, Metrics: w.tally, Log: slog.New(&w.began),
		Store: leadership.TextStore{Text: &way{sharedText: w.text, cut: &r.cut, fate: func(write bool) (time.Duration, bool, error) {
			if w.fate == nil {
				return 0, true, nil
			}
			return w.fate(write)
		}}},
		Runner:  runner.Config{Cluster: w.mesh.Through(r.reach), Querier: healthy{cluster: w.mesh.Cluster}, Version: "test", Timing: runner.DefaultTiming()},
		Cluster: w,
		Emit: func(ctx context.Context, event runs.Event) error {
			if w.emit != nil {
				return w.emit(ctx)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, event.About.String()+" "+event.Reason+" "+event.Message)
			return nil
		},
		Notify: func(e notify.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.sent = append(w.sent, e)
		},
	}
	for _, change := range changes {
		change(&c)
	}
	r.Server = New(c)
	r.reload()
	for _, b := range r.Status().Broken {
		w.t.Errorf("%+v", b)
	}
	return r
}

// startLog is a log that keeps when runs were started, and their nominal times if
// they were started by schedule.
type startLog struct {
	mu   sync.Mutex
	runs map[string]runStart // by run
}

type runStart struct{ at, nominal time.Time }

func (l *startLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *startLog) Handle(_ context.Context, record slog.Record) error {
	if !strings.HasPrefix(record.Message, "started by ") {
		return nil
	}
	run, start := "", runStart{at: record.Time}
	record.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "run":
			run = a.Value.String()
		case "nominal":
			start.nominal = a.Value.Time()
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.runs == nil {
		l.runs = map[string]runStart{}
	}
	l.runs[run] = start
	return nil
}

func (l *startLog) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *startLog) WithGroup(string) slog.Handler { return l }

// lead lets a replica lead until its stop is called.
func (w *world) lead(identity string) *process {
	r := w.replica(identity)
	ctx, cancel := context.WithCancelCause(w.t.Context())
	ended := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { r.Watch(ctx) })
	both.Go(func() { r.Lead(ctx) })
	go func() { defer close(ended); both.Wait() }()
	r.stop = func() { cancel(errors.New("another leads")); <-ended }
	synctest.Wait()
	return r
}

// kill ends a process that cannot reach the cluster any more.
func (r *process) kill() {
	r.cut.Store(true)
	r.stop()
}

// injections returns the injections of an experiment so far.
func (w *world) injections(experiment string) (found []injection) {
	all, _, _ := w.mesh.injections()
	return slices.DeleteFunc(all, func(one injection) bool { return one.experiment != experiment })
}

// alive returns the number of active injections.
func (w *world) alive() int {
	_, live, _ := w.mesh.injections()
	return len(live)
}

func (w *world) check() {
	w.t.Helper()
	_, _, problems := w.mesh.injections()
	for _, problem := range problems {
		w.t.Error(problem)
	}
}

func (y *tally) isPaused() bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.paused
}

func (y *tally) skipped(experiment string, reason scheduler.Reason) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.skips[experiment+" "+string(reason)]
}

func (y *tally) ended(experiment string, status event.Status) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.finished[experiment+" "+string(status)]
}

// healthy is a Prometheus by which every hypothesis holds, with the calls of a cluster.
type healthy struct{ cluster *runnertest.Cluster }

func (h healthy) Query(_ context.Context, promql string) ([]steadystate.Sample, error) {
	switch {
	case promql == "time()", strings.HasPrefix(promql, "min(timestamp("):
		return []steadystate.Sample{{Value: float64(time.Now().UnixMilli()) / 1000}}, nil
	case strings.HasPrefix(promql, "group by (source_workload_namespace)"):
		return []steadystate.Sample{{Value: 1, Labels: map[string]string{"source_workload_namespace": "shop"}}}, nil
	case !strings.Contains(promql, "istio_requests_total"):
		return []steadystate.Sample{{Value: 1}}, nil
	}
	return h.cluster.Calls(), nil
}

// written returns an experiment file. Each pair of changes replaces text of it.
func written(name string, changes ...string) string {
	text := `apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: ` + name + `}
spec:
  target: {host: ratings, namespace: prod}
  callers: [{namespace: shop}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 10s
  steadyState: {interval: 1s, before: 3s, probes: [{name: up, query: up, min: 1}]}
  recovery: {within: 5s}
  schedule: {cron: "* * * * *"}
`
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			panic(changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	return text
}
