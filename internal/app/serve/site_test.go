package serve

import (
	"context"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/serve/history"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/mesh/objects"
)

var update = flag.Bool("update", false, "write the golden files")

const token = "t0k3n"

var bearer = []string{"Authorization", "Bearer " + token}

// theirs is a cluster with a run of another process.
type theirs struct{}

func (theirs) ActiveRuns(context.Context) ([]objects.ActiveRun, error) {
	return []objects.ActiveRun{{ID: "theirs"}}, nil
}

func (theirs) Remove(context.Context, []objects.ActiveRun, string) error { return nil }

// site returns a server that starts nothing, and its page and API.
func site(t *testing.T) (*Server, http.Handler) {
	t.Helper()
	dir, out := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(written("outage", `  schedule: {cron: "* * * * *"}`, "")), 0o600))
	secret := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(secret, []byte(token+"\n"), 0o600))
	shown := metrics.New("test")
	server := New(Config{
		Directory: dir, History: history.Config{Directory: out}, Metrics: shown, Identity: "me", Log: slog.New(slog.DiscardHandler),
		Store: leadership.NewFile(filepath.Join(out, "starts.json")), Cluster: theirs{},
	})
	server.reload()
	return server, server.HTTPServer(shown.Handler(), secret, "squall v1").Handler
}

func request(t *testing.T, handler http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Host = "localhost:8080"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// The API starts, stops and pauses what the server does.
func TestControls(t *testing.T) {
	server, handler := site(t)
	server.Observe("another")
	for _, test := range []struct {
		target, body string
		code         int
		says         string
	}{
		{"/api/v1/experiments/outage/run", "", http.StatusServiceUnavailable, "another replica leads: another"},
		{"/api/v1/runs/theirs/stop", "", http.StatusOK, "stopping theirs"},
		{"/api/v1/runs/20261122-193148-outage-1ffc37/stop", "", http.StatusNotFound, "no such run is live"},
		{"/api/v1/pause", "", http.StatusOK, `"paused": true`},
	} {
		if got := request(t, handler, http.MethodPost, test.target, test.body, bearer...); got.Code != test.code || !strings.Contains(got.Body.String(), test.says) {
			t.Errorf("%s: %d %s", test.target, got.Code, got.Body)
		}
	}
	if by := server.Status().Paused; !strings.HasPrefix(by, "API from ") {
		t.Errorf("paused by %q", by)
	}
	if got := request(t, handler, http.MethodPost, "/api/v1/pause", `{"paused": false}`, bearer...); got.Code != http.StatusOK || server.Status().Paused != "" {
		t.Errorf("%d %s, and it is paused by %q", got.Code, got.Body, server.Status().Paused)
	}
}

var changing = regexp.MustCompile(`"(time|began)": "[^"]*"`)

// The JSON forms are a contract.
func TestJSONForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.limits = scheduler.Limits{MaxConcurrent: 1, MaxPercentage: 60}
		w.write("a.yaml", written("outage", "spec:", "spec:\n  title: An outage", "duration: 10s", "duration: 40s"))
		w.write("b.yaml", written("waits", "host: ratings", "host: reviews"))
		w.write("c.yaml", written("forbidden", "percentage: 50", "percentage: 70"))
		r := w.lead("a")
		w.write("d.yaml", "kind: [")
		time.Sleep(70*time.Second + 300*time.Millisecond) // between two measurements
		handler := r.HTTPServer(http.NotFoundHandler(), "", "").Handler
		got := request(t, handler, http.MethodGet, "/api/v1/status", "").Body.String()
		time.Sleep(60 * time.Second)
		runs := request(t, handler, http.MethodGet, "/api/v1/runs", "").Body.String()
		r.stop()
		ids := regexp.MustCompile(`-[0-9a-f]{6}\b`)
		golden(t, "testdata/status.json", ids.ReplaceAllString(got, "-RANDOM"))
		golden(t, "testdata/runs.json", ids.ReplaceAllString(runs, "-RANDOM"))
	})
	_, handler := site(t)
	if body := request(t, handler, http.MethodGet, "/api/v1/runs", "").Body.String(); body != "{\n  \"runs\": []\n}\n" {
		t.Errorf("no runs: %s", body)
	}
	empty := changing.ReplaceAllString(request(t, handler, http.MethodGet, "/api/v1/status", "").Body.String(), `"$1": "T"`)
	want := `{"time":"T","identity":"me","leader":"","leading":false,"problem":"noreplicaleads,asfarasthisoneknows","live":[],"experiments":[{"name":"outage","file":"a.yaml"}],"broken":[]}`
	if got := regexp.MustCompile(`\s`).ReplaceAllString(empty, ""); got != want {
		t.Errorf("%s", got)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		must(t, os.WriteFile(name, []byte(got), 0o600))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

// Concurrent requests are answered while the state changes.
func TestManyAtOnce(t *testing.T) {
	server, handler := site(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 20 {
				for _, path := range []string{"/", "/api/v1/status", "/api/v1/runs", "/runs/20260102-030405-outage-aaaaaa/report.html", "/metrics"} {
					_ = request(t, handler, http.MethodGet, path, "").Body.String()
				}
				_ = request(t, handler, http.MethodPost, "/api/v1/pause", `{"paused": false}`, bearer...).Body.String()
				if i == 0 {
					server.history.Scan(t.Context())
					server.reload()
					server.Observe("other")
				}
			}
		})
	}
	all.Wait()
	if got := request(t, handler, http.MethodGet, "/healthz", ""); got.Body.String() != "ok\n" {
		t.Error("it is not healthy")
	}
}

// The page shows the faults of other processes, and stops them.
func TestFaultsOfOthers(t *testing.T) {
	server, handler := site(t)
	server.runs.Look(t.Context())
	page := request(t, handler, http.MethodGet, "/", "").Body.String()
	for _, want := range []string{"Faults of others", "Not started by this squall serve", `data-post="/api/v1/runs/theirs/stop"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if status := request(t, handler, http.MethodGet, "/api/v1/status", "").Body.String(); !strings.Contains(status, `"run": "theirs"`) {
		t.Error(status)
	}
}
