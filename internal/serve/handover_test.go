package serve

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/internal/metrics"
	"github.com/squall-chaos/squall/internal/notify"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner"
)

// slowMesh is a cluster that does not answer while it is read. It has no other
// method: nothing may be created.
type slowMesh struct {
	runner.Mesh
	reads chan time.Time
}

func (m slowMesh) Name() string { return "slow" }

func (m slowMesh) Snapshot(ctx context.Context) (mesh.Snapshot, error) {
	m.reads <- time.Now()
	<-ctx.Done()
	return mesh.Snapshot{}, ctx.Err()
}

// everyTenMinutes is due every ten minutes, and may be late by five.
const everyTenMinutes = `{apiVersion: squall.dev/v1alpha1, kind: Experiment, metadata: {name: outage}, spec: {
  target: {host: ratings.prod.svc.cluster.local}, callers: [{namespace: shop}],
  faults: [{abort: {httpStatus: 503}, percentage: 50}], duration: 1m,
  steadyState: {probes: [{name: up, query: up, min: 1}]},
  schedule: {cron: "*/10 * * * *", startingDeadline: 5m}}}`

func replica(t *testing.T, folder string, cluster slowMesh) *Server {
	t.Helper()
	unexpected := func(what string) { t.Errorf("unexpected: %s", what) }
	return New(Config{
		Folder: NewFolder(folder), Runner: runner.Runner{Mesh: cluster, Timing: runner.DefaultTiming()},
		Store: &StateFile{Path: filepath.Join(folder, "starts.json")}, Out: filepath.Join(folder, "runs"),
		Look: func(context.Context) ([]mesh.ActiveRun, error) { return nil, nil },
		Remove: func(context.Context, []mesh.ActiveRun, string) error {
			unexpected("remove")
			return nil
		},
		Tell: func(context.Context, mesh.Ref, bool, string, string) error {
			unexpected("tell")
			return nil
		},
		Notify: func(e notify.Event) {
			if e.Kind != notify.Finished {
				unexpected(string(e.Kind))
			}
		},
		Metrics: metrics.New("test"), Log: slog.New(slog.DiscardHandler),
	})
}

// A run that ends before it has created anything, because its process does not
// lead any more, is made again by whoever leads next.
func TestHandoverBeforeTheFirstObject(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "outage.yaml"), []byte(everyTenMinutes), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		cluster := slowMesh{reads: make(chan time.Time)}
		lead := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				replica(t, folder, cluster).Lead(ctx)
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
