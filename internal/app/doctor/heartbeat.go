package doctor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh"
)

// The heartbeat's bounds.
const (
	// provenDeadline is the deadline of the Job that is made for the proof.
	provenDeadline = 2 * time.Second
	// provenWithin is how long the whole proof may take.
	provenWithin = 30 * time.Second
	// startedWithin is how long a run waits for its Job to be started.
	startedWithin = 10 * time.Second
	// slack is how much longer than its deadline a heartbeat may take: a run's
	// deadline of 15 s then keeps the promise of 20.
	slack = 5 * time.Second
	// cleanupTimeout bounds the removal of what was made.
	cleanupTimeout = 10 * time.Second
)

// doctorHost is a host that nobody calls.
const doctorHost = "doctor.squall.invalid"

// heartbeat lets a Job expire that owns a VirtualService for a host that nobody
// calls, exactly as those of a run whose runner has died.
func (d Doctor) heartbeat(ctx context.Context, namespace, apiVersion string, permitted bool) Check {
	const name = "heartbeat"
	if !permitted {
		return Check{name, Warning, "is not proven without the permissions above", "grant them and ask again"}
	}
	proof, err := d.prove(ctx, namespace, apiVersion)
	if err != nil {
		return Check{name, Failure, fmt.Sprintf("in namespace %s: %v", namespace, err), "a fault whose runner dies would stay: check that kube-controller-manager runs the Job, TTL-after-finished and garbage-collector controllers, and that no policy or webhook refuses the objects"}
	}
	check := ok(name, "in namespace %s a Job with a deadline of %s was started after %s, failed after %s and was deleted after %s; what it owned was gone after %s", namespace, provenDeadline,
		rounded(proof.started), rounded(proof.failed), rounded(proof.deleted), rounded(proof.collected))
	if late := proof.collected - provenDeadline; late > slack {
		check.Status = Warning
		check.Hint = fmt.Sprintf("a fault whose runner dies would stay for about %s instead of 20s: the controllers are slow", rounded(15*time.Second+late))
	}
	return check
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// proof is when each stage was seen, counted from the Job's creation.
type proof struct{ started, failed, deleted, collected time.Duration }

// prove makes the Job and what it owns, and waits until both are gone. It
// leaves nothing behind.
func (d Doctor) prove(ctx context.Context, namespace, apiVersion string) (seen proof, err error) {
	ctx, cancel := context.WithTimeout(ctx, provenWithin)
	defer cancel()
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	run := mesh.Run{ID: "doctor-" + hex.EncodeToString(random[:]), Experiment: "doctor", Owner: d.Owner, Expires: time.Now().Add(provenWithin)}

	began := time.Now()
	job, err := d.create(ctx, mesh.Heartbeat(namespace, run, provenDeadline, d.HeartbeatImage))
	defer d.remove(ctx, job, run.ID)
	if err != nil {
		return seen, err
	}
	arming, stop := context.WithTimeout(ctx, startedWithin)
	defer stop()
	if err := d.Cluster.Armed(arming, job); err != nil {
		return seen, err
	}
	seen.started = time.Since(began)
	owned, err := d.create(ctx, mesh.Own(mesh.Stamp(harmless(namespace, apiVersion, run.ID), run), job))
	defer d.remove(ctx, owned, run.ID)
	if err != nil {
		return seen, err
	}
	return seen, d.await(ctx, job, owned, began, &seen)
}

// harmless is a VirtualService that no proxy takes a route from.
func harmless(namespace, apiVersion, run string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion,
		"kind":       "VirtualService",
		"metadata": map[string]any{
			"namespace": namespace, "name": "squall-" + run,
			"annotations": map[string]any{mesh.HostAnnotation: doctorHost, mesh.CallersAnnotation: namespace},
		},
		"spec": map[string]any{
			"hosts":    []any{doctorHost},
			"exportTo": []any{"."},
			"http":     []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": doctorHost}}}}},
		},
	}}
}

// create creates an object. Its name is known even when the answer is lost.
func (d Doctor) create(ctx context.Context, object *unstructured.Unstructured) (mesh.Ref, error) {
	created, err := d.Cluster.Create(ctx, object)
	if err != nil {
		return mesh.RefTo(object), fmt.Errorf("create %s: %w", mesh.RefTo(object), err)
	}
	return mesh.RefTo(created), nil
}

// remove deletes what was made, if it is still there. What cannot be deleted
// expires, or else the next examination finds it.
func (d Doctor) remove(ctx context.Context, ref mesh.Ref, run string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_ = d.Cluster.Delete(ctx, ref, run) // see above
}

// await watches both objects go.
func (d Doctor) await(ctx context.Context, job, owned mesh.Ref, began time.Time, seen *proof) error {
	var watching sync.WaitGroup
	watching.Go(func() {
		d.Cluster.Watch(ctx, job, func(object *unstructured.Unstructured) {
			switch {
			case object == nil:
				seen.deleted = time.Since(began)
			case seen.failed == 0 && hasFailed(object):
				seen.failed = time.Since(began)
			}
		})
	})
	watching.Go(func() {
		d.Cluster.Watch(ctx, owned, func(object *unstructured.Unstructured) {
			if object == nil {
				seen.collected = time.Since(began)
			}
		})
	})
	watching.Wait()
	switch {
	case seen.deleted == 0 && seen.failed == 0:
		return fmt.Errorf("%s was not failed by the Job controller within %s, though its deadline is %s", job, provenWithin, provenDeadline)
	case seen.deleted == 0:
		return fmt.Errorf("%s was not deleted by the TTL-after-finished controller within %s", job, provenWithin)
	case seen.collected == 0:
		return fmt.Errorf("%s was not deleted with its owner by the garbage collector within %s", owned, provenWithin)
	}
	return nil
}

// hasFailed reports whether the Job controller has failed a Job.
func hasFailed(job *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(job.Object, "status", "conditions")
	for _, condition := range conditions {
		if c, _ := condition.(map[string]any); c["type"] == "Failed" && c["status"] == "True" {
			return true
		}
	}
	return false
}
