package objects

import (
	"maps"
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

// Extended returns a copy of a heartbeat Job with another deadline and with annotations.
func Extended(job *unstructured.Unstructured, deadline time.Duration, annotations map[string]string) *unstructured.Unstructured {
	extended := job.DeepCopy()
	_ = unstructured.SetNestedField(extended.Object, DeadlineSeconds(deadline), "spec", "activeDeadlineSeconds") // Heartbeat has made the spec
	all := extended.GetAnnotations()
	maps.Copy(all, annotations)
	extended.SetAnnotations(all)
	return extended
}

// CompareBetweenBeats is Compare for a heartbeat Job, without what every heartbeat
// writes again: the deadline, the phase and the expiry.
func CompareBetweenBeats(sent, stored *unstructured.Unstructured) error {
	return Compare(withoutBeat(sent), withoutBeat(stored))
}

// withoutBeat returns a copy of a Job without what every heartbeat writes.
func withoutBeat(job *unstructured.Unstructured) *unstructured.Unstructured {
	rest := job.DeepCopy()
	unstructured.RemoveNestedField(rest.Object, "spec", "activeDeadlineSeconds")
	annotations := rest.GetAnnotations()
	delete(annotations, PhaseAnnotation)
	delete(annotations, ExpiresAnnotation)
	rest.SetAnnotations(annotations)
	return rest
}

// StartTime returns the time from which the Job controller counts the deadline of a
// Job, as the API server has it; empty if it does not count.
func StartTime(job *unstructured.Unstructured) string {
	text, _, _ := unstructured.NestedString(job.Object, "status", "startTime")
	return text
}

// DeadlineSeconds returns a deadline in the unit of a Job's, whole seconds, rounded
// up.
func DeadlineSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}

// heartbeatDeadline returns the time at which the Job controller fails a Job, so that
// the Job is deleted with the objects that it owns. It returns the zero time for a Job
// that is not deleted: it is not started, suspended, managed by another controller, or
// stays after it has failed.
func heartbeatDeadline(job *unstructured.Unstructured) time.Time {
	text := StartTime(job)
	seconds, _, _ := unstructured.NestedInt64(job.Object, "spec", "activeDeadlineSeconds")
	started, err := time.Parse(time.RFC3339, text)
	kept := changed(job, "spec.ttlSecondsAfterFinished", int64(0), jobField(job, "ttlSecondsAfterFinished", nil)) != nil
	for _, field := range jobFields {
		kept = kept || field.unset != nil && changed(job, "spec."+field.name, field.unset, jobField(job, field.name, field.unset)) != nil
	}
	if err != nil || seconds == 0 || kept {
		return time.Time{}
	}
	return started.Add(time.Duration(seconds) * time.Second)
}
