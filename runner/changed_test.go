package runner_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
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
					result := run(t, c, healthy(), blackhole, &record{}, forever)
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
				result := run(t, c, healthy(), blackhole, &record{}, forever)
				if result.Status != event.StatusStopped || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, m.field) || result.Injected.Duration > 11*time.Second {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}
