package runs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
)

var errCut = errors.New("no route to host")

// fakeCluster has runs. An error is the answer to each call.
type fakeCluster struct {
	mu      sync.Mutex
	active  []objects.ActiveRun
	removed []string // run by owner
	failure error    // of Remove
}

func (c *fakeCluster) ActiveRuns(context.Context) ([]objects.ActiveRun, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]objects.ActiveRun{}, c.active...), nil
}

func (c *fakeCluster) Remove(ctx context.Context, active []objects.ActiveRun, owner string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, run := range active {
		c.removed = append(c.removed, run.ID+" by "+owner)
	}
	return errors.Join(c.failure, ctx.Err())
}

// fakeMetrics keeps the number of active faults, and the results of sweeps.
type fakeMetrics struct {
	mu     sync.Mutex
	faults int
	swept  []error
}

func (m *fakeMetrics) Finished(string, event.Result, time.Duration) {}

func (m *fakeMetrics) Live(_, faults int) { m.mu.Lock(); m.faults = faults; m.mu.Unlock() }

func (m *fakeMetrics) Swept(_ int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.swept = append(m.swept, err)
}

// live returns a Live, which logs to log, with what it works with.
func live(log *strings.Builder) (*Live, *fakeCluster, *fakeMetrics) {
	cluster, metrics := &fakeCluster{}, &fakeMetrics{}
	return New(Config{
		Cluster: cluster, Metrics: metrics, Identity: "a", Log: slog.New(slog.NewTextHandler(log, nil)),
		Notify: func(notify.Event) {}, Emit: func(context.Context, Event) error { return nil },
	}), cluster, metrics
}

// A fault that starts later is not active before, and was never active if the run
// ends before.
func TestAFaultThatStartsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, metrics := live(&strings.Builder{})
		check := func(when string, want int) {
			t.Helper()
			l.Publish()
			if metrics.faults != want {
				t.Errorf("%s: %d faults are active", when, metrics.faults)
			}
		}
		request := Request{Experiment: experiments.Experiment{Spec: experiments.Spec{
			Duration: experiments.Duration{Duration: time.Minute},
			Faults:   []experiments.Fault{{StartAfter: experiments.Duration{Duration: 40 * time.Second}}, {StartAfter: experiments.Duration{Duration: 20 * time.Second}}},
		}}}
		one := newRun(t.Context(), request, objects.Run{ID: "a"})
		l.runs["a"] = one
		one.follow(time.Now(), event.Phase{Name: event.PhaseObserve})
		time.Sleep(19 * time.Second)
		check("too early", 0)
		ended := &run{request: request, from: one.from}
		ended.follow(time.Now(), event.Phase{Name: event.PhaseRollback})
		if message := ended.message(notify.Finished); !message.From.IsZero() || !message.To.IsZero() {
			t.Errorf("it was active from %s to %s", message.From, message.To)
		}
		// Objects that are stuck after a run that ended before its faults started
		// have no fault.
		l.runs["b"] = &run{request: request, from: one.from, to: time.Now(), stuck: map[objects.Ref]bool{{Kind: "VirtualService"}: true}}
		time.Sleep(3 * time.Second)
		check("started", 1)
		delete(l.runs, "b")
		over := event.Phase{Name: event.PhaseRollback}
		one.follow(time.Now(), over)
		l.notifyPhase(one, over)
		if message := one.message(notify.Finished); message.To.Sub(message.From) != 2*time.Second || metrics.faults != 0 {
			t.Errorf("it was active from %s to %s, and %d are", message.From, message.To, metrics.faults)
		}
	})
}

// The log says that something was removed only when it was.
func TestLogOfASweep(t *testing.T) {
	for _, failure := range []error{nil, errCut} {
		t.Run(fmt.Sprint(failure), func(t *testing.T) {
			var log strings.Builder
			l, cluster, metrics := live(&log)
			cluster.active = []objects.ActiveRun{{ID: "old", Expired: true, Objects: []objects.Ref{{Kind: "VirtualService", Namespace: "shop", Name: "squall-x"}}}}
			cluster.failure = failure
			l.Sweep(t.Context())
			if removed, failed := strings.Contains(log.String(), "removed"), strings.Contains(log.String(), errCut.Error()); removed != (failure == nil) || failed != (failure != nil) {
				t.Error(log.String())
			}
			if len(metrics.swept) != 1 || !errors.Is(metrics.swept[0], failure) {
				t.Errorf("counted: %v", metrics.swept)
			}
		})
	}
}

// Stop removes the run that was named, and no other.
func TestStopOfARunOfAnotherProcess(t *testing.T) {
	l, cluster, _ := live(&strings.Builder{})
	cluster.active = []objects.ActiveRun{{ID: "x"}, {ID: "y"}}
	if err := l.Stop(t.Context(), "z", "me"); !errors.Is(err, ErrNotLive) {
		t.Errorf("error %v for a run that is not live", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel() // the client has disconnected
	if err := l.Stop(canceled, "x", "me"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"x by me"}, cluster.removed); diff != "" {
		t.Error(diff)
	}
}

func TestOthers(t *testing.T) {
	l, cluster, _ := live(&strings.Builder{})
	for i := range 150 {
		cluster.active = append(cluster.active, objects.ActiveRun{ID: fmt.Sprint(i)})
	}
	l.runs["7"] = &run{}
	l.Look(t.Context())
	others := l.Others()
	if len(others.Runs) != 100 || others.More != 49 || others.Problem != "" || others.Runs[7].ID != "8" {
		t.Errorf("%d others, %d more, %s", len(others.Runs), others.More, others.Problem)
	}
	l.runs["8"] = &run{}
	if others := l.Others(); len(others.Runs) != 99 || others.Runs[7].ID != "9" {
		t.Errorf("%d others", len(others.Runs))
	}
}
