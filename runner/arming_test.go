package runner_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/runnertest"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The baseline is measured while the cluster takes its time to count the deadline of the
// heartbeat Job. The fault waits for both.
func TestTheFaultWaitsForTheHeartbeat(t *testing.T) {
	for name, test := range map[string]struct{ armed, injected time.Duration }{
		"fast Job controller": {time.Second, 3 * time.Second}, // the length of the baseline
		"slow Job controller": {8 * time.Second, 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, rec, start := newCluster(t), &record{}, time.Now()
				c.On("armed", func() { time.Sleep(test.armed) })
				var created time.Duration
				c.On("create VirtualService", func() { created = time.Since(start) })
				result := run(t, c, healthy(c), func(e *experiments.Experiment) { e.Spec.Duration.Duration = 5 * time.Second }, rec, forever)
				if result.Verdict != steadystate.Held || created != test.injected {
					t.Errorf("the fault is created after %s; result %+v", created, result)
				}
				if began := rec.phases[event.PhaseBaseline].Sub(start); began >= time.Second {
					t.Errorf("the baseline begins after %s", began)
				}
			})
		})
	}
}

// A baseline ends at once when the cluster refuses to count the deadline.
func TestAHeartbeatThatIsNotArmedEndsTheBaseline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, start := newCluster(t), time.Now()
		c.On("armed", func() { time.Sleep(time.Second) })
		c.Fail("armed", errors.New("boom"))
		c.Forbid("create VirtualService")
		result := run(t, c, healthy(c), func(e *experiments.Experiment) { e.Spec.SteadyState.Before.Duration = time.Minute }, &record{}, forever)
		if result.Status != event.StatusFailed || !strings.Contains(result.Reason, "heartbeat in shop: boom") || result.Hint == "" || time.Since(start) > 2*time.Second {
			t.Errorf("result %+v after %s", result, time.Since(start))
		}
	})
}

// A user who ends a run while the cluster does not count the deadline yet ends it as in any
// other phase.
func TestAStopBeforeTheHeartbeatIsArmed(t *testing.T) {
	for name, stop := range map[string]func(*runnertest.Cluster){
		"deleted": func(c *runnertest.Cluster) { c.Fail("armed", fmt.Errorf("it %w", objects.ErrGone)) },
		"stopped": func(c *runnertest.Cluster) {
			c.On("armed", func() {
				editJob(c, func(job *unstructured.Unstructured) {
					job.SetAnnotations(map[string]string{objects.StoppedByAnnotation: "bob@desk"})
				})
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.Forbid("create VirtualService")
				stop(c)
				result := run(t, c, healthy(c), nil, &record{}, forever)
				if result.Status != event.StatusInterrupted || !result.Outside {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}
