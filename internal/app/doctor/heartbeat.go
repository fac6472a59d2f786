package doctor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// Limits of the proof.
const (
	// proofDeadline is the deadline of its Job.
	proofDeadline = 2 * time.Second
	// proofTimeout limits the whole proof.
	proofTimeout = 30 * time.Second
	// startTimeout is how long a run waits for its Job to be started.
	startTimeout = 10 * time.Second
	// slack is the time between a heartbeat's deadline and the deletion of the
	// fault. A run's deadline is 15 s and a fault is to be gone after 20 s.
	slack = 5 * time.Second
	// cleanupTimeout limits the deletion of each object.
	cleanupTimeout = 10 * time.Second
)

// proofHost is the host of the VirtualService. It does not exist.
const proofHost = "doctor.squall.invalid"

// heartbeat lets a Job expire that owns a VirtualService for a host that does not
// exist, as the Job of a run expires whose process has died. It returns how long after
// the deadline both were gone.
func (d Doctor) heartbeat(ctx context.Context, namespace, apiVersion string, permitted bool) (Check, measured) {
	const name = "heartbeat"
	if !permitted {
		return warning(name, "not proven: permissions are missing, see above", "grant them and run squall doctor again"), measured{}
	}
	proof, err := prover{d}.prove(ctx, namespace, apiVersion)
	if err != nil {
		return failure(name, fmt.Sprintf("in namespace %s: %v", namespace, err), "the fault of a run that dies would stay: check that kube-controller-manager runs the Job, TTL-after-finished and garbage-collector controllers, and that no policy or webhook rejects or changes the objects"), measured{}
	}
	check := ok(name, "in namespace %s a Job with a deadline of %s was started after %s, failed after %s and was deleted after %s; the object it owned was gone after %s", namespace, proofDeadline,
		rounded(proof.started), rounded(proof.failed), rounded(proof.deleted), rounded(proof.collected))
	late := proof.collected - proofDeadline
	if late > slack {
		check.Status = Warning
		check.Hint = fmt.Sprintf("the fault of a run that dies would stay for about %s instead of 20s: the controllers are slow", rounded(runner.DefaultTiming().Deadline+late))
	}
	return check, measured{Duration: late, known: true}
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// prover is the part of a Doctor that proves that the cluster removes objects.
type prover struct{ Doctor }

// proof is the time of each stage since the Job was created.
type proof struct{ started, failed, deleted, collected time.Duration }

// prove creates the Job and the VirtualService that it owns, and waits until both
// are gone. It deletes what is left.
func (d prover) prove(ctx context.Context, namespace, apiVersion string) (seen proof, err error) {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	run := objects.Run{ID: "doctor-" + hex.EncodeToString(random[:]), Experiment: "doctor", Owner: d.Owner, Expires: time.Now().Add(proofTimeout)}

	var changed error
	began := time.Now()
	job, err := d.create(ctx, objects.Heartbeat(namespace, run, proofDeadline, d.HeartbeatImage), &changed)
	defer d.remove(ctx, job, run.ID)
	if err != nil {
		return seen, err
	}
	arming, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	if _, err := d.Objects.Armed(arming, job); err != nil {
		return seen, err
	}
	seen.started = time.Since(began)
	owned, err := d.create(ctx, objects.Own(objects.Stamp(harmless(namespace, apiVersion, run.ID), run), job), &changed)
	defer d.remove(ctx, owned, run.ID)
	if err != nil {
		return seen, err
	}
	if err := d.await(ctx, job, owned, began, &seen); err != nil {
		return seen, err
	}
	return seen, changed
}

// harmless returns a VirtualService for proofHost.
func harmless(namespace, apiVersion, run string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion,
		"kind":       objects.KindVirtualService,
		"metadata": map[string]any{
			"namespace": namespace, "name": "squall-" + run,
			"annotations": map[string]any{objects.HostAnnotation: proofHost, objects.CallersAnnotation: namespace},
		},
		"spec": map[string]any{
			"hosts":    []any{proofHost},
			"exportTo": []any{"."},
			"http":     []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": proofHost}}}}},
		},
	}}
}

// create creates an object and returns its reference, also if it fails: the answer
// may be lost although the object exists. It sets changed if the object is not stored as
// it was sent.
func (d prover) create(ctx context.Context, object *unstructured.Unstructured, changed *error) (objects.Ref, error) {
	created, err := d.Objects.Create(ctx, object)
	if err != nil {
		return objects.RefTo(object), fmt.Errorf("create %s: %w", objects.RefTo(object), err)
	}
	if err := objects.Compare(object, created); err != nil && *changed == nil {
		*changed = fmt.Errorf("it is not stored as it was sent: %w", err)
	}
	return objects.RefTo(created), nil
}

// remove deletes an object if it still exists. One that cannot be deleted expires,
// or else the check of live faults finds it the next time.
func (d prover) remove(ctx context.Context, ref objects.Ref, run string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_ = d.Objects.Delete(ctx, ref, run) // see above
}

// await watches both objects until they are gone, and records when.
func (d prover) await(ctx context.Context, job, owned objects.Ref, began time.Time, seen *proof) error {
	var watching sync.WaitGroup
	watching.Go(func() {
		d.Objects.Watch(ctx, job, func(object *unstructured.Unstructured) {
			switch {
			case object == nil:
				seen.deleted = time.Since(began)
			case seen.failed == 0 && hasFailed(object):
				seen.failed = time.Since(began)
			}
		})
	})
	watching.Go(func() {
		d.Objects.Watch(ctx, owned, func(object *unstructured.Unstructured) {
			if object == nil {
				seen.collected = time.Since(began)
			}
		})
	})
	watching.Wait()
	switch {
	case seen.deleted == 0 && seen.failed == 0:
		return fmt.Errorf("%s was not failed by the Job controller within %s, though its deadline is %s", job, proofTimeout, proofDeadline)
	case seen.deleted == 0:
		return fmt.Errorf("%s was not deleted by the TTL-after-finished controller within %s", job, proofTimeout)
	case seen.collected == 0:
		return fmt.Errorf("%s was not deleted with its owner by the garbage collector within %s", owned, proofTimeout)
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
