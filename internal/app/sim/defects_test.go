package sim

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
)

// defect is a defect of Squall that is planted between Squall and its surroundings,
// to prove that the simulator finds one of its kind.
type defect struct {
	// finds is in the problem that the defect causes, and seed is one that finds it.
	finds string
	seed  uint64
	// cluster replaces the cluster of runs.
	cluster func(runner.Cluster) runner.Cluster
	// noHold lets rollbacks hold no runs.
	noHold bool
	// unrecorded reports that a run does not record an event.
	unrecorded func(event.Event) bool
}

// altered is a cluster that creates other objects than a run wants, and does not let
// the run notice: the run has a defect, and not the cluster.
type altered struct {
	runner.Cluster
	change  func(*unstructured.Unstructured)
	mu      *sync.Mutex
	created map[types.UID]alteration
}

type alteration struct {
	sent *unstructured.Unstructured
	name string // as created
}

// alter returns a planted defect that changes objects of a kind before they are
// created.
func alter(kind string, change func(*unstructured.Unstructured)) func(runner.Cluster) runner.Cluster {
	changed := func(object *unstructured.Unstructured) {
		if object.GetKind() == kind {
			change(object)
		}
	}
	return func(c runner.Cluster) runner.Cluster {
		return altered{Cluster: c, change: changed, mu: &sync.Mutex{}, created: map[types.UID]alteration{}}
	}
}

func (a altered) Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	changed := object.DeepCopy()
	a.change(changed)
	created, err := a.Cluster.Create(ctx, changed)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.created[created.GetUID()] = alteration{sent: object.DeepCopy(), name: created.GetName()}
	a.mu.Unlock()
	return a.restored(created), nil
}

// restored returns an object as the run wanted it.
func (a altered) restored(object *unstructured.Unstructured) *unstructured.Unstructured {
	if object == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if was, known := a.created[object.GetUID()]; known {
		object = object.DeepCopy()
		object.SetName(was.sent.GetName())
		object.SetOwnerReferences(was.sent.GetOwnerReferences())
		if object.GetKind() == objects.KindJob {
			keep(object, 0)
		} else {
			object.Object["spec"] = was.sent.DeepCopy().Object["spec"]
		}
	}
	return object
}

func (a altered) real(ref objects.Ref) objects.Ref {
	a.mu.Lock()
	defer a.mu.Unlock()
	if was, known := a.created[ref.UID]; known {
		ref.Name = was.name
	}
	return ref
}

func (a altered) Get(ctx context.Context, ref objects.Ref) (*unstructured.Unstructured, error) {
	object, err := a.Cluster.Get(ctx, a.real(ref))
	return a.restored(object), err
}

func (a altered) Watch(ctx context.Context, ref objects.Ref, changed func(*unstructured.Unstructured)) {
	a.Cluster.Watch(ctx, a.real(ref), func(object *unstructured.Unstructured) { changed(a.restored(object)) })
}

func (a altered) Delete(ctx context.Context, ref objects.Ref, run string) error {
	return a.Cluster.Delete(ctx, a.real(ref), run)
}

func (a altered) Extend(ctx context.Context, job objects.Ref, deadline time.Duration, annotations map[string]string) (*unstructured.Unstructured, error) {
	object, err := a.Cluster.Extend(ctx, job, deadline, annotations)
	return a.restored(object), err
}

// keep sets for how long a finished Job is kept.
func keep(job *unstructured.Unstructured, seconds int64) {
	_ = unstructured.SetNestedField(job.Object, seconds, "spec", "ttlSecondsAfterFinished")
}

// defects are the planted defects.
var defects = map[string]defect{
	"faults have no owner":         {seed: 43, finds: "I1", cluster: alter(objects.KindVirtualService, func(fault *unstructured.Unstructured) { fault.SetOwnerReferences(nil) })},
	"a finished heartbeat is kept": {seed: 18, finds: "I1", cluster: alter(objects.KindJob, func(job *unstructured.Unstructured) { keep(job, 86400) })},
	"a fault is public": {seed: 1, finds: "I3", cluster: alter(objects.KindVirtualService, func(fault *unstructured.Unstructured) {
		_ = unstructured.SetNestedStringSlice(fault.Object, []string{"*"}, "spec", "exportTo")
	})},
	"the name of a fault is not a lock": {seed: 149, finds: "I5", cluster: alter(objects.KindVirtualService, func(fault *unstructured.Unstructured) {
		fault.SetName(fault.GetName() + "-" + fault.GetLabels()[objects.RunLabel])
	})},
	"an object without a UID is not deleted": {seed: 4, finds: "left", cluster: func(c runner.Cluster) runner.Cluster { return careless{c} }},
	"a failed delete counts as done":         {seed: 30, finds: "left", cluster: func(c runner.Cluster) runner.Cluster { return trusting{c} }},
	"a run does not look at the mesh":        {seed: 524, finds: "I7", cluster: func(c runner.Cluster) runner.Cluster { return &incurious{Cluster: c} }},
	"a rollback does not hold runs":          {seed: 75, finds: "H:", noHold: true},
	"objects are created before they are recorded": {seed: 1, finds: "I6", unrecorded: func(e event.Event) bool {
		_, is := e.(event.Creating)
		return is
	}},
}

// incurious reads the mesh for the plan of a run only.
type incurious struct {
	runner.Cluster
	last  config.Snapshot
	looks int
}

func (i *incurious) Snapshot(ctx context.Context) (config.Snapshot, error) {
	if i.looks == 2 {
		return i.last, nil
	}
	now, err := i.Cluster.Snapshot(ctx)
	if err == nil {
		i.last = now
		i.looks++
	}
	return now, err
}

type careless struct{ runner.Cluster }

func (c careless) Delete(ctx context.Context, ref objects.Ref, run string) error {
	if ref.UID == "" {
		return nil
	}
	return c.Cluster.Delete(ctx, ref, run)
}

type trusting struct{ runner.Cluster }

func (t trusting) Delete(ctx context.Context, ref objects.Ref, run string) error {
	_ = t.Cluster.Delete(ctx, ref, run)
	return nil
}

// The simulator finds defects. If a seed no longer finds one, because Squall asks its
// surroundings other questions, others are tried.
func TestPlantedDefects(t *testing.T) {
	for name, planted := range defects {
		t.Run(name, func(t *testing.T) {
			if planted.found(t, planted.seed) {
				return
			}
			for seed := uint64(1); seed <= 10_000; seed++ {
				if planted.found(t, seed) {
					t.Logf("seed %d instead of %d", seed, planted.seed)
					return
				}
			}
			t.Error("10,000 seeds do not find it")
		})
	}
}

func (d defect) found(t *testing.T, seed uint64) bool {
	t.Helper()
	return slices.ContainsFunc(simulate(t, seed, &d).judge.problems, func(problem string) bool { return strings.Contains(problem, d.finds) })
}
