package objects

import (
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The labels and annotations of Squall's objects. None of the keys contains
// istio.io, because istiod pushes configuration to proxies when such a key
// changes.
const (
	ManagedByLabel       = "app.kubernetes.io/managed-by"
	ManagedByValue       = "squall"
	RunLabel             = "squall.dev/run"
	ExperimentAnnotation = "squall.dev/experiment"
	OwnerAnnotation      = "squall.dev/owner"
	ExpiresAnnotation    = "squall.dev/expires"
	HostAnnotation       = "squall.dev/host"
	CallersAnnotation    = "squall.dev/callers"
	// PhaseAnnotation is the phase of the run, on the heartbeat Job.
	PhaseAnnotation = "squall.dev/phase"
	// StoppedByAnnotation is set on the heartbeat Job by the user of the kill
	// switch.
	StoppedByAnnotation = "squall.dev/stopped-by"
)

// Run is what the objects of a run record about it.
type Run struct {
	ID         string `json:"id"`
	Experiment string `json:"experiment"`
	// Owner is the user who started it, such as alice@laptop.
	Owner string `json:"owner"`
	// Expires is the time at which the fault is gone at the latest.
	Expires time.Time `json:"expires"`
}

// Stamp returns a copy of an object with the labels and annotations of a run added
// to its own.
func Stamp(object *unstructured.Unstructured, run Run) *unstructured.Unstructured {
	stamped := object.DeepCopy()
	labels := map[string]string{ManagedByLabel: ManagedByValue, RunLabel: run.ID}
	maps.Copy(labels, object.GetLabels())
	stamped.SetLabels(labels)
	annotations := map[string]string{
		ExperimentAnnotation: run.Experiment,
		OwnerAnnotation:      run.Owner,
		ExpiresAnnotation:    run.Expires.UTC().Format(time.RFC3339),
	}
	maps.Copy(annotations, object.GetAnnotations())
	stamped.SetAnnotations(annotations)
	return stamped
}

// IsOurs reports whether a run of Squall created an object.
func IsOurs(object metav1.Object) bool {
	return object.GetLabels()[ManagedByLabel] == ManagedByValue && object.GetLabels()[RunLabel] != ""
}

// IsFor reports whether an object names the calls from a namespace to a host.
func IsFor(object metav1.Object, host, callers string) bool {
	annotations := object.GetAnnotations()
	return annotations[HostAnnotation] == host && annotations[CallersAnnotation] == callers
}

// LiveRunHint returns the next step for a user whose run meets a live run on the
// same calls.
func LiveRunHint(run string) string {
	return "wait until it has ended, or end it: squall rollback " + run
}
