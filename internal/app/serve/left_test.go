package serve

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
)

// Left returns the objects that the last runs could not remove.
func TestLeft(t *testing.T) {
	for name, end := range map[string]func(*process){"the cluster answers": func(r *process) { r.stop() }, "it does not": (*process).kill} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.write("a.yaml", written("outage", "duration: 10s", "duration: 40s"))
				r := w.lead("a")
				time.Sleep(70 * time.Second)
				if len(w.injections("outage")) != 1 {
					t.Fatalf("injections %+v", w.injections("outage"))
				}
				end(r)
				if left := r.Left(); (len(left) > 0) != (name == "it does not") {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}

// A replica is ready when it has read the experiments and knows the leader.
func TestReady(t *testing.T) {
	server, handler := site(t)
	check := func(when string, code int, says string) {
		t.Helper()
		if got := request(t, handler, http.MethodGet, "/readyz", ""); got.Code != code || !strings.Contains(got.Body.String(), says) {
			t.Errorf("%s: %d %s", when, got.Code, got.Body)
		}
	}
	check("no leader is known", http.StatusServiceUnavailable, "no replica leads")
	server.Observe("other")
	check("another leads", http.StatusOK, "ok")
	must(t, os.RemoveAll(server.config.Directory))
	server.reload()
	check("the folder is gone", http.StatusServiceUnavailable, "the experiments cannot be read")
}

// The page is served before the experiments have been read, however long that takes:
// the process is healthy, and not ready.
func TestReadyAfterTheFirstLoad(t *testing.T) {
	server := New(Config{Directory: t.TempDir(), Metrics: metrics.New("test"), Log: slog.New(slog.DiscardHandler), Store: leadership.NewFile("none")})
	handler := server.HTTPServer(http.NotFoundHandler(), "", "").Handler
	server.Observe("other")
	for _, step := range []struct {
		path string
		code int
		says string
	}{
		{"/healthz", http.StatusOK, "ok"},
		{"/readyz", http.StatusServiceUnavailable, "the experiments have not been read yet"},
		{"/api/v1/status", http.StatusOK, "the experiments have not been read yet"},
		{"/", http.StatusOK, "This replica is not ready: the experiments have not been read yet."},
	} {
		if got := request(t, handler, http.MethodGet, step.path, ""); got.Code != step.code || !strings.Contains(got.Body.String(), step.says) {
			t.Errorf("%s: %d %s", step.path, got.Code, got.Body)
		}
	}
	server.reload()
	if got := request(t, handler, http.MethodGet, "/readyz", ""); got.Code != http.StatusOK {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// A process that cannot take over the state is not ready and does not call itself
// the leader. Everything names the file. When it is repaired, the process leads.
func TestAStateThatIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, handler := site(t)
		file := filepath.Join(server.config.History.Directory, "starts.json")
		must(t, os.WriteFile(file, []byte(`{"starts": {"outage": "x"`), 0o600))
		server.Observe(server.config.Identity)
		ctx, stop := context.WithCancel(t.Context())
		var leading sync.WaitGroup
		leading.Go(func() { server.Lead(ctx) })
		synctest.Wait()
		broken := file + " does not hold the state of the schedules: unexpected end of JSON input"
		for path, code := range map[string]int{"GET /readyz": http.StatusServiceUnavailable, "GET /api/v1/status": http.StatusOK, "GET /": http.StatusOK, "POST /api/v1/experiments/outage/run": http.StatusServiceUnavailable} {
			method, path, _ := strings.Cut(path, " ")
			if got := request(t, handler, method, path, "", bearer...); got.Code != code || !strings.Contains(got.Body.String(), broken) {
				t.Errorf("%s: %d %s", path, got.Code, got.Body)
			}
		}
		if status := server.Status(); status.Leader != "" || status.Leading {
			t.Errorf("%q leads, this one: %t", status.Leader, status.Leading)
		}
		must(t, os.Remove(file))
		time.Sleep(2 * time.Second)
		if status := server.Status(); status.Leader != "me" || !status.Leading || server.Ready() != nil {
			t.Errorf("%q leads, this one: %t, ready: %v", status.Leader, status.Leading, server.Ready())
		}
		stop()
		leading.Wait()
	})
}

// The gauge of active faults follows the faults, not their runs: it falls when a
// fault ends, and stays while the fault cannot be removed.
func TestActiveFaults(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage"))
		r := w.lead("a")
		check := func(when string, at, want int) {
			t.Helper()
			time.Sleep(time.Until(time.Date(2000, 1, 1, 0, 0, at, 0, time.UTC)))
			if got := w.counted().faults; got != want {
				t.Errorf("%s: %d are active", when, got)
			}
		}
		check("in the baseline", 62, 0)
		check("while it lasts", 64, 1)
		check("at its end", 72, 1)
		check("in the recovery", 75, 0)
		check("while the next one lasts", 130, 1)
		r.cut.Store(true)
		check("it cannot be removed", 140, 1)
		r.cut.Store(false)
		check("it can be removed", 146, 0)
		r.stop()
	})
}

// A fault is active as soon as its first object exists, even if the others cannot
// be created.
func TestAFaultThatIsHalfActive(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage", "callers: [{namespace: shop}]", "callers: [{namespace: shop}, {namespace: cart}]", "* * * * *", "1 0 * * *"))
		r := w.replica("a")
		// The second VirtualService fails, late.
		created := 0
		w.mesh.Fail("create VirtualService", nil, errCut)
		w.mesh.On("create VirtualService", func() {
			if created++; created == 2 {
				time.Sleep(4 * time.Second)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { r.Lead(ctx) })
		time.Sleep(66 * time.Second)
		if w.alive() != 1 || w.counted().faults != 1 {
			t.Errorf("%d are active, and the gauge is %d", w.alive(), w.counted().faults)
		}
		time.Sleep(20 * time.Second)
		cancel()
		ended.Wait()
		if faults := w.counted().faults; faults != 0 {
			t.Errorf("%d are active after the run", faults)
		}
		last := w.sent[len(w.sent)-1]
		if one := w.injections("outage")[0]; last.Kind != notify.Finished || !last.From.Equal(one.from) || last.To.Before(one.from.Add(4*time.Second)) {
			t.Errorf("a fault was active from %s to %s, and the notification is %+v", one.from, one.to, last)
		}
		for _, namespace := range []string{"shop", "cart"} {
			if !slices.ContainsFunc(w.events, func(event string) bool {
				return strings.HasPrefix(event, "Namespace "+namespace+"/"+namespace+" ExperimentFinished ")
			}) {
				t.Errorf("no Event about %s: %q", namespace, w.events)
			}
		}
	})
}

// A run that is refused at its first object was never active.
func TestARunThatIsRefusedLate(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage", "* * * * *", "1 0 * * *"))
		r := w.replica("a")
		w.mesh.FailAlways("create VirtualService", &objects.TakenError{Object: objects.Ref{Kind: objects.KindVirtualService}, Run: "another"})
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { r.Lead(ctx) })
		time.Sleep(80 * time.Second)
		cancel()
		ended.Wait()
		last := w.sent[len(w.sent)-1]
		if last.Kind != notify.Finished || last.Status != string(event.StatusRefused) || !last.From.IsZero() || !last.To.IsZero() {
			t.Errorf("%+v", last)
		}
	})
}
