package mesh

import (
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The labels and annotations of Squall's own objects. None of the keys
// contains istio.io, because istiod pushes configuration to proxies when such
// a key changes.
const (
	ManagedByLabel       = "app.kubernetes.io/managed-by"
	ManagedByValue       = "squall"
	RunLabel             = "squall.dev/run"
	ExperimentAnnotation = "squall.dev/experiment"
	OwnerAnnotation      = "squall.dev/owner"
	ExpiresAnnotation    = "squall.dev/expires"
	HostAnnotation       = "squall.dev/host"
	CallersAnnotation    = "squall.dev/callers"
	// StoppedByAnnotation says, on a heartbeat Job, who has pulled the kill
	// switch.
	StoppedByAnnotation = "squall.dev/stopped-by"
)

// Run is what a run's objects say about it, for whoever finds them.
type Run struct {
	ID         string `json:"id"`
	Experiment string `json:"experiment"`
	// Owner is who started it, such as alice@laptop.
	Owner string `json:"owner"`
	// Expires is when the fault is gone at the latest.
	Expires time.Time `json:"expires"`
}

// Stamp gives a copy of an object that carries the run's labels and
// annotations beside its own.
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

// isOurs reports whether an object was made by a run of Squall.
func isOurs(object metav1.Object) bool {
	return object.GetLabels()[ManagedByLabel] == ManagedByValue && object.GetLabels()[RunLabel] != ""
}
