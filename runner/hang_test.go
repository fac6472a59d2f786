package runner_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// A Prometheus that does not answer about the requests hit does not keep a fault
// active, even if it ignores the context.
func TestCountersThatHangDelayNoRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		well := traffic{"FI": from(3, 5)}.prometheus(start)
		cluster := newCluster(t)
		result := run(t, cluster, func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
			since := time.Since(start)
			switch {
			case strings.Contains(promql, "istio_requests_total") && since > 4*time.Second && since < 23*time.Second:
				time.Sleep(time.Minute)
			case promql == "up" && since > 8*time.Second && since < 30*time.Second:
				return []steadystate.Sample{{Value: 0}}, nil
			}
			return well(ctx, promql)
		}, nil, &record{}, forever)
		if result.Status != event.StatusStopped || result.Injected.Duration > 8*time.Second || result.Rollback.Duration > time.Second {
			t.Errorf("result %+v", result)
		}
	})
}

// A Prometheus client that ignores its context, such as one that waits for a token,
// does not keep a fault active.
func TestProbesThatHangDelayNoRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, c := time.Now(), newCluster(t)
		well := healthy(c)
		result := run(t, c, func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
			if since := time.Since(start); promql == "up" && since > 8*time.Second && since < 10*time.Second {
				time.Sleep(10 * time.Minute)
			}
			return well(ctx, promql)
		}, nil, &record{}, forever)
		if result.Verdict != steadystate.Inconclusive || result.Injected.Duration > 8*time.Second || !strings.Contains(result.Reason, "did not answer in time") {
			t.Errorf("result %+v", result)
		}
		time.Sleep(10 * time.Minute) // until the query ends
	})
}

// slowDisk takes long to record a measurement that has deviated.
type slowDisk struct {
	record
	takes time.Duration
}

func (r *slowDisk) Record(at time.Time, e event.Event) error {
	if m, is := e.(event.Measured); is && m.Verdict == steadystate.Deviated {
		time.Sleep(r.takes)
	}
	return r.record.Record(at, e)
}

// last returns the type of the last event.
func (r *slowDisk) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.types[len(r.types)-1]
}

// A disk that is slow, or hangs, does not keep a fault active. Events are recorded
// later.
func TestADiskThatHangsDelaysNoRollback(t *testing.T) {
	for _, test := range []struct {
		takes  time.Duration
		status event.Status
		whole  bool
	}{
		{3 * time.Second, event.StatusStopped, true},
		{time.Hour, event.StatusStopped, false},
	} {
		t.Run(test.takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, c := time.Now(), newCluster(t)
				well := healthy(c)
				e := experiment(t)
				disk := &slowDisk{takes: test.takes}
				r := newRunner(t, runner.Config{Cluster: c, Querier: fakePrometheus(func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if since := time.Since(start); promql == "up" && since > 8*time.Second && since < 12*time.Second {
						return []steadystate.Sample{{Value: 0}}, nil
					}
					return well(ctx, promql)
				})})
				result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, disk)
				if result.Status != test.status || result.Verdict != steadystate.Deviated || result.Injected.Duration > 7*time.Second || result.Rollback.Duration > time.Second || len(result.Left) > 0 {
					t.Errorf("result %+v", result)
				}
				if last := disk.last(); test.whole != (last == (event.Finished{}).Type()) {
					t.Errorf("the last event is %s", last)
				}
				time.Sleep(24 * time.Hour) // until the disk is back
				if last := disk.last(); last != (event.Finished{}).Type() {
					t.Errorf("the last event is %s in the end", last)
				}
			})
		})
	}
}

// hungDisk hangs for a day from an event of a type on.
type hungDisk struct {
	record
	from string
}

func (r *hungDisk) Record(at time.Time, e event.Event) error {
	if e.Type() == r.from {
		time.Sleep(24 * time.Hour)
	}
	return r.record.Record(at, e)
}

// A run that cannot be recorded for long creates nothing, or ends.
func TestADiskThatHangsEndsTheRun(t *testing.T) {
	for _, test := range []struct {
		from    string
		status  event.Status
		created bool
	}{
		{event.Started{}.Type(), event.StatusRefused, false},
		{event.Creating{}.Type(), event.StatusFailed, false},
		{event.Created{}.Type(), event.StatusFailed, false},
		{event.Counted{}.Type(), event.StatusFailed, true},
	} {
		t.Run(test.from, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, e := newCluster(t), experiment(t)
				created := false
				c.On("create VirtualService", func() { created = true })
				r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(c)})
				result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, &hungDisk{from: test.from})
				if result.Status != test.status || !strings.Contains(result.Reason, "nothing could be recorded for 10s") || result.Injected.Duration > 15*time.Second || created != test.created || len(result.Left) > 0 {
					t.Errorf("created %t, result %+v", created, result)
				}
				time.Sleep(10 * 24 * time.Hour) // until the disk is back
			})
		})
	}
}
