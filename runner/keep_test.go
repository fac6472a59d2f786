package runner_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/runnertest"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// A Job that is deleted takes the fault with it, so the run must end.
func TestTheHeartbeatVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		time.AfterFunc(12*time.Second, func() {
			c.Edit(func(all map[string]*unstructured.Unstructured) {
				maps.DeleteFunc(all, func(_ string, o *unstructured.Unstructured) bool { return o.GetKind() == "Job" })
			})
		})
		start := time.Now()
		rec := &record{}
		result := run(t, c, healthy(c), nil, rec, forever)
		if ended := rec.phases[event.PhaseRollback].Sub(start); result.Status != event.StatusInterrupted || !strings.Contains(result.Reason, "were deleted from outside") || ended > 12*time.Second+100*time.Millisecond {
			t.Errorf("result %+v after %s", result, ended)
		}
	})
}

// A fault that is deleted or edited is not the planned one, so the run must end.
func TestDrift(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(all map[string]*unstructured.Unstructured)
		want string
	}{
		"deleted": {func(all map[string]*unstructured.Unstructured) { delete(all, faultName) }, "was deleted while the fault was active"},
		"edited":  {func(all map[string]*unstructured.Unstructured) { all[faultName].SetGeneration(2) }, "was changed while the fault was active"},
		"replaced": {func(all map[string]*unstructured.Unstructured) {
			all[faultName].SetUID("other")
			all[faultName].SetLabels(nil)
		}, "was deleted while the fault was active"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				time.AfterFunc(6500*time.Millisecond, func() { c.Edit(test.do) })
				start := time.Now()
				e := experiment(t)
				r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(c)})
				rec := &record{}
				result := r.Run(t.Context(), r.NewRun(e, start), e, rec)
				if result.Status != event.StatusStopped || result.Outside != (name != "edited") || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, test.want) {
					t.Errorf("result %+v", result)
				}
				if took := rec.phases[event.PhaseRollback].Sub(start); took > 6600*time.Millisecond {
					t.Errorf("the fault ended after %s", took)
				}
			})
		})
	}
}

// faults returns the timeout and the fault of the only route of the fault's object.
func faults(c *runnertest.Cluster) (timeout, fault any) {
	http, _, _ := unstructured.NestedSlice(c.Object(faultName).Object, "spec", "http")
	route, _ := http[0].(map[string]any)
	return route["timeout"], route["fault"]
}

// A run that is rolled back from another machine ends.
func TestTheKillSwitch(t *testing.T) {
	for name, test := range map[string]struct {
		pull func(all map[string]*unstructured.Unstructured)
		want string
	}{
		"by squall rollback": {func(all map[string]*unstructured.Unstructured) {
			for _, object := range all {
				if object.GetKind() == "Job" {
					object.SetAnnotations(map[string]string{objects.StoppedByAnnotation: "bob@desk"})
				}
			}
		}, "rolled back by bob@desk"},
		"with its Job": {func(all map[string]*unstructured.Unstructured) {
			maps.DeleteFunc(all, func(_ string, o *unstructured.Unstructured) bool { return o.GetKind() == "Job" })
		}, "were deleted from outside"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				time.AfterFunc(6500*time.Millisecond, func() {
					c.Edit(func(all map[string]*unstructured.Unstructured) {
						test.pull(all)
						delete(all, faultName)
					})
				})
				result := run(t, c, healthy(c), nil, &record{}, forever)
				if result.Status != event.StatusInterrupted || !result.Outside || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, test.want) {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// changeBase adds the effective VirtualService, and changes it while the fault is
// active.
func changeBase(c *runnertest.Cluster, change func(*runnertest.Cluster)) {
	addBase(c)
	time.AfterFunc(6500*time.Millisecond, func() { change(c) })
}

// The base of a shadow changes while the fault is active.
func TestABaseThatChangesIsFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*runnertest.Cluster)
		ends   string // why the run ends, or nothing when it goes on
	}{
		"another timeout": {func(c *runnertest.Cluster) { setTimeout(c, "7s") }, ""},
		"its status":      {func(c *runnertest.Cluster) { c.Touch(baseName) }, ""},
		"private":         {func(c *runnertest.Cluster) { setBase(c, "exportTo", []any{"shop"}) }, ""},
		"a redirect": {func(c *runnertest.Cluster) {
			setBase(c, "http", []any{map[string]any{"redirect": map[string]any{"uri": "/x"}}})
		}, "cannot follow: no http route"},
		"for another host": {func(c *runnertest.Cluster) { setBase(c, "hosts", []any{"other"}) }, "other routes are effective now"},
		"deleted": {func(c *runnertest.Cluster) {
			c.Edit(func(all map[string]*unstructured.Unstructured) { delete(all, baseName) })
		}, "was deleted"},
		"our status changed": {func(c *runnertest.Cluster) { c.Touch(faultName); setTimeout(c, "7s") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				changeBase(c, test.change)
				time.AfterFunc(8*time.Second, func() {
					if test.ends != "" {
						return
					}
					want := c.Object(baseName).Object["spec"].(map[string]any)["http"].([]any)[0].(map[string]any)["timeout"]
					if timeout, fault := faults(c); timeout != want || fault == nil {
						t.Errorf("timeout %v, fault %v", timeout, fault)
					}
				})
				result := run(t, c, healthy(c), nil, &record{}, forever)
				if test.ends == "" && result.Verdict != steadystate.Held || !strings.Contains(result.Reason, test.ends) {
					t.Errorf("result %+v", result)
				}
				if test.ends != "" && (result.Status != event.StatusStopped || result.Verdict != steadystate.Inconclusive) {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// A fault does not follow a change of routes to a host that is not permitted.
func TestAFaultFollowsOnlyWhereItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const payments = "payments.prod.svc.cluster.local"
		c := newCluster(t)
		changeBase(c, func(c *runnertest.Cluster) {
			setBase(c, "http", []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": payments}}}}})
		})
		e := experiment(t)
		r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(c), Permit: func(p mesh.Plan) error {
			if slices.ContainsFunc(p.Decisions, func(d mesh.Decision) bool { return slices.Contains(d.Signature.Destinations, payments) }) {
				return errors.New("payments is protected")
			}
			return nil
		}})
		result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, &record{})
		if result.Status != event.StatusStopped || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "cannot follow: payments is protected") || result.Injected.Duration > 4*time.Second {
			t.Errorf("result %+v", result)
		}
	})
}

// Faults start and end at their own times by updates of one object.
func TestFaultsStartAndEndAtTheirTimes(t *testing.T) {
	for name, failures := range map[string][]error{"smoothly": nil, "though an update fails": {errors.New("boom"), nil}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, rec := newCluster(t), &record{}
				if failures != nil {
					c.Fail("update VirtualService", failures...)
				}
				delay := experiments.Percentage(100)
				edit := func(e *experiments.Experiment) {
					e.Spec.Faults[0].StartAfter.Duration = 5 * time.Second
					e.Spec.Faults = append(e.Spec.Faults, experiments.Fault{
						Delay: &experiments.Delay{FixedDelay: experiments.Duration{Duration: time.Second}}, Percentage: &delay,
						Duration: experiments.Duration{Duration: 10 * time.Second},
					})
				}
				var mu sync.Mutex
				seen := map[time.Duration]string{}
				for _, at := range []time.Duration{1, 4, 6, 9, 11, 19} {
					// The experiment begins after 3 s.
					time.AfterFunc(3*time.Second+at*time.Second, func() {
						_, fault := faults(c)
						kinds, _ := fault.(map[string]any)
						mu.Lock()
						defer mu.Unlock()
						seen[at] = fmt.Sprint(slices.Sorted(maps.Keys(kinds)))
					})
				}
				result := run(t, c, healthy(c), edit, rec, forever)
				mu.Lock() // orders what the timers have seen before this
				defer mu.Unlock()
				if result.Verdict != steadystate.Held {
					t.Errorf("result %+v", result)
				}
				want := map[time.Duration]string{1: "[delay]", 4: "[delay]", 6: "[abort delay]", 9: "[abort delay]", 11: "[abort]", 19: "[abort]"}
				if diff := cmp.Diff(want, seen); diff != "" {
					t.Error(diff)
				}
				if !slices.Contains(rec.types, (event.Updating{}).Type()) || !slices.Contains(rec.types, (event.Updated{}).Type()) {
					t.Errorf("events %v", rec.types)
				}
			})
		})
	}
}

// An update that the cluster rejects, or does not answer for long, ends the run: a
// fault must not stay active past its time.
func TestAnUpdateThatFailsEndsTheRun(t *testing.T) {
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		failures []error
		lost     bool
		restless bool
		status   event.Status
	}{
		"refused":               {[]error{fmt.Errorf("%w: forbidden", objects.ErrRejected)}, false, false, event.StatusFailed},
		"not answered for long": {slices.Repeat([]error{boom}, 32), false, false, event.StatusFailed},
		"not answered for long, while much is seen": {slices.Repeat([]error{boom}, 32), false, true, event.StatusFailed},
		"the answer is lost":                        {[]error{boom}, true, false, event.StatusCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, rec := newCluster(t), &record{}
				c.Fail("update VirtualService", test.failures...)
				if test.lost {
					c.Lose("update VirtualService")
				}
				c.Restless = test.restless
				start := time.Now()
				result := run(t, c, healthy(c), func(e *experiments.Experiment) { e.Spec.Faults[0].Duration.Duration = 2 * time.Second }, rec, forever)
				if result.Status != test.status {
					t.Errorf("result %+v", result)
				}
				if !slices.Contains(rec.types, (event.UpdateFailed{}).Type()) {
					t.Errorf("the record does not say so: %v", rec.types)
				}
				if stayed := rec.phases[event.PhaseRollback].Sub(start); test.status == event.StatusFailed && stayed > 22*time.Second {
					t.Errorf("the fault stayed for %s", stayed)
				}
				c.StopFailing()
			})
		})
	}
}
