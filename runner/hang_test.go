package runner_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/runner"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// A Prometheus that answers nothing about the requests hit keeps no fault in
// force, even if it does not hear that nobody waits any more.
func TestCountersThatHangDelayNoRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		well := traffic{"FI": from(3, 5)}.prometheus(start)
		cluster := newFakeCluster(t)
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
		if result.Status != runner.Stopped || result.Injected.Duration > 8*time.Second || result.Rollback.Duration > time.Second {
			t.Errorf("result %+v", result)
		}
	})
}
