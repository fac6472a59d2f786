package metrics_test

import (
	"errors"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

var update = flag.Bool("update", false, "rewrite the golden files and the tables of the documentation")

// eventful calls every method of Metrics.
func eventful() *metrics.Metrics {
	m := metrics.New("v1.2.3")
	now := time.Now()
	m.Reloaded(now, 3, 0)
	m.Reloaded(now.Add(time.Minute), 2, 1)
	m.Leading(true)
	m.Paused(true)
	m.Paused(false)
	for _, experiment := range []string{"outage", "removed"} {
		m.NextStart(experiment, now.Add(time.Hour), true)
		m.Started(experiment, 20*time.Millisecond)
	}
	m.Forget("removed")
	m.Live(2, 3)
	m.Finished("outage", event.Result{Status: event.StatusCompleted}, 90*time.Second)
	m.Finished("outage", event.Result{Status: event.StatusStopped, Verdict: steadystate.Deviated}, 20*time.Second)
	m.Finished("removed", event.Result{Status: event.StatusFailed, Verdict: steadystate.Inconclusive, Left: make([]objects.Left, 2)}, 3*time.Hour)
	m.Started("outage", 2*time.Minute)
	m.Skipped("outage", scheduler.Deadline)
	m.Skipped("never started", scheduler.Host)
	m.NextStart("never started", now, true)
	m.NextStart("never started", time.Time{}, false)
	m.Swept(4, nil)
	m.Swept(1, errors.New("forbidden"))
	m.Notifies("1 slack")
	m.Notifies("2 smtp")
	m.NotificationFailed("2 smtp")
	return m
}

// expose returns the metrics in Prometheus' text format.
func expose(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	response := httptest.NewRecorder()
	m.Handler().ServeHTTP(response, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if response.Code != 200 {
		t.Fatalf("%d: %s", response.Code, response.Body)
	}
	return response.Body.String()
}

// ours removes the metrics of Go and of the process.
func ours(exposition string) string {
	var b strings.Builder
	for line := range strings.Lines(exposition) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, "squall_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestExposition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		golden(t, filepath.Join("testdata", "eventful.txt"), ours(expose(t, eventful())))
		golden(t, filepath.Join("testdata", "new.txt"), ours(expose(t, metrics.New("v1.2.3"))))
	})
}

var goVersion = regexp.MustCompile(`goversion="[^"]*"`)

// golden compares with a file, except for the version of Go.
func golden(t *testing.T, file, got string) {
	t.Helper()
	got = goVersion.ReplaceAllString(got, `goversion="go"`)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestGoAndProcessAreExposedToo(t *testing.T) {
	exposition := expose(t, metrics.New("v1.2.3"))
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(exposition, "\n"+name+" ") {
			t.Errorf("there is no %s", name)
		}
	}
}

func TestLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(expose(t, eventful()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Concurrent calls are all counted, while other goroutines read.
func TestConcurrentUse(t *testing.T) {
	const tellers, times = 8, 100
	m := metrics.New("v1.2.3")
	var tell sync.WaitGroup
	for i := range tellers {
		tell.Go(func() {
			for j := range times {
				experiment := strconv.Itoa(j % 3)
				m.NextStart(experiment, time.Now(), true)
				m.Started(experiment, time.Duration(i)*time.Second)
				m.Finished(experiment, event.Result{Status: event.StatusCompleted}, time.Second)
				m.Skipped(experiment, scheduler.Limit)
				m.Swept(1, nil)
				m.Live(j, j)
				m.Forget(experiment)
			}
		})
	}
	tell.Go(func() {
		for range times {
			expose(t, m)
		}
	})
	tell.Wait()

	total := strconv.Itoa(tellers * times)
	exposition := expose(t, m)
	for _, line := range []string{
		"squall_run_duration_seconds_count " + total,
		"squall_schedule_lag_seconds_count " + total,
		"squall_swept_objects_total " + total,
		`squall_sweeps_total{result="success"} ` + total,
		`squall_starts_skipped_total{experiment="0",reason="limit"} ` + strconv.Itoa(tellers*(times+2)/3),
	} {
		if !strings.Contains(exposition, line+"\n") {
			t.Errorf("no line %q in:\n%s", line, ours(exposition))
		}
	}
	if strings.Contains(exposition, "squall_experiment_next_start_timestamp_seconds{") {
		t.Error("an experiment that is forgotten has a next start")
	}
}
