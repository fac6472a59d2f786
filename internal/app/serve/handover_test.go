package serve

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/serve/history"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/runnertest"
)

// slowMesh is a cluster that does not answer while it is read. Any other call is
// unexpected.
type slowMesh struct {
	runnertest.Unexpected
	reads chan time.Time
}

func (m slowMesh) Snapshot(ctx context.Context) (config.Snapshot, error) {
	m.reads <- time.Now()
	<-ctx.Done()
	return config.Snapshot{}, ctx.Err()
}

// everyTenMinutes is due every ten minutes, and may be late by five.
const everyTenMinutes = `{apiVersion: squall.dev/v1alpha1, kind: Experiment, metadata: {name: outage}, spec: {
  target: {host: ratings.prod.svc.cluster.local}, callers: [{namespace: shop}],
  faults: [{abort: {httpStatus: 503}, percentage: 50}], duration: 1m,
  steadyState: {probes: [{name: up, query: up, min: 1}]},
  schedule: {cron: "*/10 * * * *", startingDeadline: 5m}}}`

// unexpected is a cluster in which nothing may be removed.
type unexpected struct{ t *testing.T }

func (unexpected) ActiveRuns(context.Context) ([]objects.ActiveRun, error) { return nil, nil }

func (u unexpected) Remove(context.Context, []objects.ActiveRun, string) error {
	u.t.Error("unexpected: remove")
	return nil
}

func replica(t *testing.T, directory string, cluster slowMesh, changes ...func(*Config)) *Server {
	t.Helper()
	config := Config{
		Directory: directory, Runner: runner.Config{Cluster: cluster, Querier: healthy{}, Timing: runner.DefaultTiming()},
		Store: leadership.NewFile(filepath.Join(directory, "starts.json")), History: history.Config{Directory: filepath.Join(directory, "runs")},
		Cluster: unexpected{t},
		Emit: func(_ context.Context, event runs.Event) error {
			t.Errorf("unexpected: Event %s", event.Reason)
			return nil
		},
		Notify: func(e notify.Event) {
			if e.Kind != notify.Finished {
				t.Errorf("unexpected: %s", e.Kind)
			}
		},
		Metrics: metrics.New("test"), Log: slog.New(slog.DiscardHandler),
	}
	for _, change := range changes {
		change(&config)
	}
	server := New(config)
	server.reload()
	return server
}

// When a replica stops leading before a run has created an object, the next leader
// makes the start again.
func TestHandoverBeforeTheFirstObject(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "outage.yaml"), []byte(everyTenMinutes), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		cluster := slowMesh{Unexpected: runnertest.Unexpected{T: t}, reads: make(chan time.Time)}
		lead := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				replica(t, directory, cluster).Lead(ctx)
			}()
			return func() {
				cancel()
				<-ended
			}
		}
		stop := lead()
		first := <-cluster.reads
		time.Sleep(2 * time.Second)
		stop()

		stop = lead()
		defer stop()
		if second := <-cluster.reads; second.Sub(first) > 5*time.Second {
			t.Errorf("the start at %s was made again at %s", first, second)
		}
	})
}

// gauges keeps the gauges of one replica.
type gauges struct {
	Metrics
	mu     sync.Mutex
	next   map[string]time.Time
	paused bool
}

func (g *gauges) NextStart(experiment string, at time.Time, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if delete(g.next, experiment); ok {
		g.next[experiment] = at
	}
}

func (g *gauges) Paused(paused bool) { g.mu.Lock(); g.paused = paused; g.mu.Unlock() }

func (g *gauges) check(t *testing.T, when string, next map[string]time.Time, paused bool) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if diff := cmp.Diff(next, g.next); diff != "" || g.paused != paused {
		t.Errorf("%s: paused %t; next starts (-want +got):\n%s", when, g.paused, diff)
	}
}

// A standby exposes no next start, which only the leader knows, and follows
// whether the schedules are paused.
func TestGaugesOfAStandby(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage", "* * * * *", "0 * * * *"))
		none := map[string]time.Time{}
		var replicas []*process
		var shown []*gauges
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		for _, identity := range []string{"a", "b"} {
			gauges := &gauges{Metrics: w.tally, next: map[string]time.Time{}}
			r := w.replica(identity, func(c *Config) { c.Metrics = gauges })
			replicas, shown = append(replicas, r), append(shown, gauges)
			ended.Go(func() { r.Watch(ctx) })
		}
		lead := func(r *process) (stop func()) {
			leading, cancel := context.WithCancel(ctx)
			ended := make(chan struct{})
			go func() { defer close(ended); r.Lead(leading) }()
			return func() { cancel(); <-ended }
		}
		stop := lead(replicas[0])
		w.write("b.yaml", written("second", "* * * * *", "30 * * * *"))
		time.Sleep(reloadEvery + time.Second)
		now := time.Now().Truncate(time.Hour)
		next := map[string]time.Time{"outage": now.Add(time.Hour), "second": now.Add(time.Hour / 2)}
		shown[0].check(t, "it leads", next, false)
		shown[1].check(t, "it has never led", none, false)
		must(t, replicas[0].Pause(t.Context(), true, "ann"))
		time.Sleep(refreshEvery)
		shown[0].check(t, "after it was asked to pause", next, true)
		shown[1].check(t, "after another was asked to pause", none, true)
		stop()
		stop = lead(replicas[1])
		must(t, replicas[1].Pause(t.Context(), false, ""))
		time.Sleep(refreshEvery)
		shown[0].check(t, "it does not lead any more", none, false)
		shown[1].check(t, "it leads now", next, false)
		if by := replicas[0].Status().Paused; by != "" {
			t.Errorf("a former leader still shows that it is paused by %q", by)
		}
		stop()
		cancel()
		ended.Wait()
	})
}
