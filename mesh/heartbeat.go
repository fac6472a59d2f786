package mesh

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// HeartbeatImage is named in the heartbeat Job, unless the user names another,
// because a pod template needs an image. With parallelism 0 no pod is ever made
// of it.
const HeartbeatImage = "registry.k8s.io/pause:3.10"

// Heartbeat gives the Job that a run's objects in one namespace belong to. It
// makes no pod and does nothing but expire: when its deadline is not moved on
// in time, Kubernetes fails the Job, deletes it, and collects with it every
// object that it owns.
func Heartbeat(namespace string, run Run, deadline time.Duration, image string) *unstructured.Unstructured {
	job := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1",
		"kind":       "Job",
		"metadata":   map[string]any{"namespace": namespace, "name": "squall-" + run.ID},
		"spec": map[string]any{
			"parallelism":             int64(0),
			"completions":             int64(1),
			"backoffLimit":            int64(0),
			"activeDeadlineSeconds":   DeadlineSeconds(deadline),
			"ttlSecondsAfterFinished": int64(0),
			"template": map[string]any{
				"metadata": map[string]any{"annotations": map[string]any{"sidecar.istio.io/inject": "false"}},
				"spec": map[string]any{
					"restartPolicy":                "Never",
					"automountServiceAccountToken": false,
					"containers":                   []any{map[string]any{"name": "never-started", "image": image}},
				},
			},
		},
	}}
	return Stamp(job, run)
}

// DeadlineSeconds gives a Job's deadline in its unit, whole seconds, rounded
// up.
func DeadlineSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}

// Ref names one object of the cluster. The UID is empty while it is not known
// whether the object was created.
type Ref struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Namespace  string    `json:"namespace"`
	Name       string    `json:"name"`
	UID        types.UID `json:"uid,omitempty"`
}

// RefTo names an object.
func RefTo(object *unstructured.Unstructured) Ref {
	return Ref{object.GetAPIVersion(), object.GetKind(), object.GetNamespace(), object.GetName(), object.GetUID()}
}

func (r Ref) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// Own gives a copy of an object that the owner takes along when it is
// deleted.
func Own(object *unstructured.Unstructured, owner Ref) *unstructured.Unstructured {
	owned := object.DeepCopy()
	owned.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name, UID: owner.UID}})
	return owned
}
