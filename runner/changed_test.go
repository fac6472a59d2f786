package runner_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// A mutation is a change that takes an object's effect or what removes it.
type mutation struct {
	kind  string
	field string
	do    func(*unstructured.Unstructured)
}

// setField sets a field; nil removes it.
func setField(value any, path ...string) func(*unstructured.Unstructured) {
	return func(object *unstructured.Unstructured) {
		if value == nil {
			unstructured.RemoveNestedField(object.Object, path...)
			return
		}
		_ = unstructured.SetNestedField(object.Object, value, path...) // the parents are maps
	}
}

// fixedMutations are the changes that a run does not put right.
func fixedMutations() []mutation {
	job := func(name string, value any) mutation {
		return mutation{objects.KindJob, "spec." + name, setField(value, "spec", name)}
	}
	all := []mutation{
		job("ttlSecondsAfterFinished", int64(86400)), job("ttlSecondsAfterFinished", nil), job("suspend", true), job("parallelism", int64(1)),
		job("completions", int64(0)), job("backoffLimit", int64(6)), job("managedBy", "example.com/queue"),
	}
	for _, kind := range []string{objects.KindJob, objects.KindServiceEntry, objects.KindVirtualService} {
		all = append(all,
			mutation{kind, "metadata.finalizers", setField([]any{"example.com/keep"}, "metadata", "finalizers")},
			mutation{kind, "metadata.labels[squall.dev/run]", setField(nil, "metadata", "labels", objects.RunLabel)},
			mutation{kind, "metadata.labels[app.kubernetes.io/managed-by]", setField("helm", "metadata", "labels", objects.ManagedByLabel)},
			mutation{kind, "metadata.annotations[squall.dev/owner]", setField(nil, "metadata", "annotations", objects.OwnerAnnotation)},
		)
	}
	return all
}

// blackhole is an experiment with objects of all kinds.
func blackhole(e *experiments.Experiment) {
	hit := experiments.Percentage(100)
	e.Spec.Faults = []experiments.Fault{{Blackhole: &experiments.Blackhole{Mode: experiments.Reject}, Percentage: &hit}}
}

// No VirtualService is created in a cluster that changes what a run sends, whether a
// dry run shows it or not.
func TestAdmissionThatChangesAnObject(t *testing.T) {
	all := append(fixedMutations(),
		mutation{objects.KindJob, "spec.activeDeadlineSeconds", setField(int64(3600), "spec", "activeDeadlineSeconds")},
		mutation{objects.KindJob, "spec.activeDeadlineSeconds", setField(nil, "spec", "activeDeadlineSeconds")},
		mutation{objects.KindServiceEntry, "spec.exportTo", setField([]any{"*"}, "spec", "exportTo")},
		mutation{objects.KindServiceEntry, "metadata.ownerReferences", setField(nil, "metadata", "ownerReferences")},
		mutation{objects.KindVirtualService, "spec.exportTo", setField([]any{"*"}, "spec", "exportTo")},
		mutation{objects.KindVirtualService, "spec.http", setField([]any{}, "spec", "http")},
	)
	for _, m := range all {
		for _, hidden := range []bool{false, true} {
			name := m.kind + " " + m.field
			if hidden {
				name += " without a dry run"
			}
			if m.kind == objects.KindVirtualService && hidden || m.field == "metadata.ownerReferences" && !hidden {
				continue // created, or not yet owned
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t)
					c.Forbid("create VirtualService")
					c.Admit = func(object *unstructured.Unstructured, dryRun bool) {
						if object.GetKind() == m.kind && (dryRun || hidden) && dryRun != hidden {
							m.do(object)
						}
					}
					result := run(t, c, healthy(c), blackhole, &record{}, forever)
					if result.Status != event.StatusRefused || !strings.Contains(result.Reason, m.field) || !strings.Contains(result.Reason, m.kind+" shop/squall-") || result.Hint == "" {
						t.Errorf("result %+v", result)
					}
				})
			})
		}
	}
}

// A change that takes what removes the fault ends the run within a beat, also if no
// watch reports it.
func TestAnObjectThatIsChangedWhileTheFaultIsActive(t *testing.T) {
	all := append(fixedMutations(),
		mutation{objects.KindServiceEntry, "metadata.ownerReferences", setField(nil, "metadata", "ownerReferences")},
		mutation{objects.KindVirtualService, "metadata.ownerReferences", setField(nil, "metadata", "ownerReferences")},
	)
	for _, m := range all {
		if m.kind == objects.KindJob {
			continue
		}
		t.Run(m.kind+" "+m.field, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				time.AfterFunc(9*time.Second, func() {
					c.Edit(func(all map[string]*unstructured.Unstructured) {
						for name, object := range all {
							if object.GetKind() == m.kind {
								all[name] = object.DeepCopy()
								m.do(all[name])
							}
						}
					})
				})
				result := run(t, c, healthy(c), blackhole, &record{}, forever)
				if result.Status != event.StatusStopped || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, m.field) || result.Injected.Duration > 11*time.Second {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// A change that weakens the heartbeat ends the run within a beat, before the fault and
// while it is active.
func TestAHeartbeatThatIsChanged(t *testing.T) {
	all := append(fixedMutations(),
		mutation{objects.KindJob, "status.startTime", setField(nil, "status", "startTime")},
		mutation{objects.KindJob, "status.startTime", setField("2026-01-01T00:00:00Z", "status", "startTime")},
	)
	for _, m := range all {
		for _, after := range []time.Duration{time.Second, 9 * time.Second} {
			if m.kind != objects.KindJob {
				continue
			}
			t.Run(m.field+" after "+after.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, start := newCluster(t), time.Now()
					time.AfterFunc(after, func() { editJob(c, m.do) })
					result := run(t, c, healthy(c), nil, &record{}, forever)
					if result.Status != event.StatusStopped || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, m.field) || time.Since(start) > after+6*time.Second {
						t.Errorf("result %+v after %s", result, time.Since(start))
					}
				})
			})
		}
	}
}

// editJob changes the heartbeat Job.
func editJob(c *runnertest.Cluster, do func(*unstructured.Unstructured)) {
	c.Edit(func(all map[string]*unstructured.Unstructured) {
		for name, object := range all {
			if object.GetKind() == objects.KindJob {
				all[name] = object.DeepCopy()
				do(all[name])
			}
		}
	})
}

// A field that every heartbeat writes again is put right.
func TestAChangeThatTheNextHeartbeatPutsRight(t *testing.T) {
	for name, do := range map[string]func(*unstructured.Unstructured){
		"deadline": setField(int64(86400), "spec", "activeDeadlineSeconds"),
		"phase":    setField("other", "metadata", "annotations", objects.PhaseAnnotation),
		"expiry":   setField(nil, "metadata", "annotations", objects.ExpiresAnnotation),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				time.AfterFunc(9*time.Second, func() { editJob(c, do) })
				time.AfterFunc(15*time.Second, func() {
					job := jobOf(t, c)
					seconds, _, _ := unstructured.NestedInt64(job.Object, "spec", "activeDeadlineSeconds")
					if seconds > 30 || job.GetAnnotations()[objects.PhaseAnnotation] != "observe" || job.GetAnnotations()[objects.ExpiresAnnotation] == "" {
						t.Errorf("deadline %d, annotations %v", seconds, job.GetAnnotations())
					}
				})
				if result := run(t, c, healthy(c), nil, &record{}, forever); result.Verdict != steadystate.Held {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// jobOf returns the heartbeat Job; nil if there is none.
func jobOf(t *testing.T, c *runnertest.Cluster) *unstructured.Unstructured {
	t.Helper()
	for _, name := range c.Owned() {
		if strings.HasPrefix(name, objects.KindJob+" ") {
			return c.Object(name)
		}
	}
	t.Error("there is no heartbeat Job")
	return &unstructured.Unstructured{}
}

// The Job exists in every phase, and says which one it is.
func TestARunIsVisibleFromStartToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, start := newCluster(t), time.Now()
		well := healthy(c)
		phases := map[time.Duration]string{time.Second: "baseline", 5 * time.Second: "observe", 22 * time.Second: "observe", 25 * time.Second: "recover"}
		for at, want := range phases {
			time.AfterFunc(at, func() {
				if got := jobOf(t, c).GetAnnotations()[objects.PhaseAnnotation]; got != want {
					t.Errorf("phase %q after %s instead of %q", got, at, want)
				}
			})
		}
		result := run(t, c, func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
			if since := time.Since(start); promql == "up" && since >= 23*time.Second && since < 28*time.Second {
				return []steadystate.Sample{{Value: 0}}, nil
			}
			return well(ctx, promql)
		}, func(e *experiments.Experiment) {
			e.Spec.SteadyState.Probes[0].Phases = []experiments.Phase{experiments.Before, experiments.After}
		}, &record{}, forever)
		if result.Verdict != steadystate.Held {
			t.Errorf("result %+v", result)
		}
	})
}

// The kill switch ends a run in any phase.
func TestTheKillSwitchInEveryPhase(t *testing.T) {
	for name, test := range map[string]struct {
		at      time.Duration
		created bool
	}{"baseline": {2 * time.Second, false}, "observe": {9 * time.Second, true}, "recover": {25 * time.Second, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, start := newCluster(t), time.Now()
				well := healthy(c)
				if !test.created {
					c.Forbid("create VirtualService")
				}
				time.AfterFunc(test.at, func() {
					editJob(c, setField("bob@desk", "metadata", "annotations", objects.StoppedByAnnotation))
					c.Edit(func(all map[string]*unstructured.Unstructured) {
						maps.DeleteFunc(all, func(_ string, o *unstructured.Unstructured) bool { return objects.IsOurs(o) })
					})
				})
				result := run(t, c, func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if since := time.Since(start); promql == "up" && since >= 23*time.Second {
						return []steadystate.Sample{{Value: 0}}, nil
					}
					return well(ctx, promql)
				}, func(e *experiments.Experiment) {
					e.Spec.SteadyState.Probes[0].Phases = []experiments.Phase{experiments.Before, experiments.After}
				}, &record{}, forever)
				if result.Status != event.StatusInterrupted || !result.Outside || len(result.Left) > 0 || time.Since(start) > test.at+4*time.Second { // until the calls are clean
					t.Errorf("result %+v after %s", result, time.Since(start))
				}
			})
		})
	}
}

// A hold refuses a run in every phase before its fault, and nothing after.
func TestAHold(t *testing.T) {
	for name, test := range map[string]struct {
		at   time.Duration
		held bool
	}{"before the start": {0, true}, "baseline": {2 * time.Second, true}, "observe": {9 * time.Second, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				if test.held {
					c.Forbid("create VirtualService")
				}
				hold := &objects.Hold{By: "bob@desk", Until: time.Now().Add(10 * time.Minute), Namespace: "istio-system"}
				if test.at == 0 {
					c.SetHold(hold)
				}
				time.AfterFunc(test.at, func() { c.SetHold(hold) })
				result := run(t, c, healthy(c), nil, &record{}, forever)
				switch {
				case !test.held && result.Verdict == steadystate.Held:
				case result.Status != event.StatusRefused || !result.Outside || !strings.Contains(result.Reason, "bob@desk has stopped all runs until 2000-01-01T00:1") || !strings.Contains(result.Hint, "squall rollback --release -n istio-system"):
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// A run whose fault is gone does not need its heartbeat.
func TestALostHeartbeatAfterTheFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, start := newCluster(t), time.Now()
		well := healthy(c)
		time.AfterFunc(23500*time.Millisecond, func() {
			for seconds := range 100 {
				c.FailAlways(fmt.Sprintf("extend to %ds", seconds), errors.New("boom"))
			}
		})
		result := run(t, c, func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
			if since := time.Since(start); promql == "up" && since >= 23*time.Second && since < 50*time.Second {
				return []steadystate.Sample{{Value: 0}}, nil
			}
			return well(ctx, promql)
		}, func(e *experiments.Experiment) {
			e.Spec.SteadyState.Probes[0].Phases = []experiments.Phase{experiments.Before, experiments.After}
			e.Spec.Recovery.Within.Duration = time.Minute
		}, &record{}, forever)
		if result.Status != event.StatusCompleted || result.Verdict != steadystate.Held {
			t.Errorf("result %+v", result)
		}
	})
}
