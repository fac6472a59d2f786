package runner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/runnertest"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// drain is how long proxies keep the connections of a filter chain that was replaced.
const drain = 45 * time.Second

// A blackhole of connections changes the filter chain of a port, and so does its
// rollback. The run waits until proxies have closed the connections that were open then,
// so that they are not closed in the next run.
func TestARunWaitsUntilConnectionsAreClosed(t *testing.T) {
	for name, test := range map[string]struct {
		port     string
		deviates bool
		// interrupted is when a signal comes.
		interrupted time.Duration
		status      event.Status
		closes      time.Duration
		awaited     bool
		took        time.Duration
	}{
		"to the end":                 {port: "tcp-db", status: event.StatusCompleted, closes: drain, awaited: true, took: 23*time.Second + 2*time.Second + drain},
		"deviated":                   {port: "tcp-db", deviates: true, status: event.StatusStopped, closes: drain, awaited: true, took: 10*time.Second + 2*time.Second + drain},
		"interrupted":                {port: "tcp-db", interrupted: 10 * time.Second, status: event.StatusInterrupted, closes: drain, took: 11 * time.Second},
		"interrupted while it waits": {port: "tcp-db", interrupted: 40 * time.Second, status: event.StatusInterrupted, closes: drain, took: 40 * time.Second},
		"requests, whose stay open":  {port: "http", status: event.StatusCompleted, took: 24 * time.Second},
		"requests, and interrupted":  {port: "http", interrupted: 10 * time.Second, status: event.StatusInterrupted, took: 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := runnertest.New(t, config.Snapshot{
					APIVersion: "networking.istio.io/v1", ClusterDomain: "cluster.local", Settings: config.Settings{RootNamespace: "istio-system", DrainDuration: drain},
					Services:   []config.Service{{Namespace: "prod", Name: "ratings", Ports: []config.Port{{Number: 80, Name: test.port, OfService: true}}}},
					Namespaces: map[string]map[string]string{"shop": {}, "prod": {}},
				})
				start, rec := time.Now(), &record{}
				well := healthy(c)
				if test.awaited {
					time.AfterFunc(test.took-20*time.Second, func() {
						if got := jobOf(t, c).GetAnnotations()[objects.PhaseAnnotation]; got != "close" {
							t.Errorf("phase %q", got)
						}
					})
				}
				deadline := forever
				if test.interrupted > 0 {
					deadline = test.interrupted
				}
				result := run(t, c, func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if test.deviates && promql == "up" && time.Since(start) >= 10*time.Second && time.Since(start) < 11*time.Second {
						return []steadystate.Sample{{Value: 0}}, nil
					}
					return well(ctx, promql)
				}, func(e *experiments.Experiment) {
					blackhole(e)
					e.Spec.Effect.MinRequests = 0
				}, rec, deadline)
				if result.Status != test.status {
					t.Errorf("result %+v", result)
				}
				if got := cleanOf(t, rec); got.Closes.Duration != test.closes || got.Awaited != test.awaited {
					t.Errorf("clean %+v", got)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("took %s instead of %s", took, test.took)
				}
			})
		})
	}
}

// cleanOf returns what a run has recorded about its calls after the rollback.
func cleanOf(t *testing.T, rec *record) event.Clean {
	t.Helper()
	for _, e := range rec.events {
		if found, is := e.(event.Clean); is {
			return found
		}
	}
	t.Fatal("nothing is recorded about the calls after the rollback")
	return event.Clean{}
}
