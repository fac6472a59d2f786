package objects

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// HeartbeatImage is the image of the heartbeat Job unless the user names another
// one. A pod template needs an image; with parallelism 0 no pod is ever created.
const HeartbeatImage = "registry.k8s.io/pause:3.10"

// Heartbeat returns the Job that owns a run's objects in one namespace. The Job
// creates no pod and only expires: if its deadline is not extended in time,
// Kubernetes fails the Job, deletes it, and collects every object that it owns.
func Heartbeat(namespace string, run Run, deadline time.Duration, image string) *unstructured.Unstructured {
	job := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1",
		"kind":       KindJob,
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

// DeadlineSeconds returns a deadline in the unit of a Job's, whole seconds, rounded
// up.
func DeadlineSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}

// heartbeatDeadline returns the time at which the Job controller fails a Job, or
// the zero time if it has not started the Job.
func heartbeatDeadline(job *unstructured.Unstructured) time.Time {
	text, _, _ := unstructured.NestedString(job.Object, "status", "startTime")
	seconds, _, _ := unstructured.NestedInt64(job.Object, "spec", "activeDeadlineSeconds")
	started, err := time.Parse(time.RFC3339, text)
	if err != nil || seconds == 0 {
		return time.Time{}
	}
	return started.Add(time.Duration(seconds) * time.Second)
}
