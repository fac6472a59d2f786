package objects_test

import (
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh/objects"
)

// sentObjects returns a Job and a VirtualService as a run sends them.
func sentObjects() (job, service *unstructured.Unstructured) {
	run := objects.Run{ID: "run-1", Experiment: "outage", Owner: "ann@laptop", Expires: noon}
	job = objects.Heartbeat("shop", run, 15*time.Second, objects.HeartbeatImage)
	service = objects.Own(objects.Stamp(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{"namespace": "shop", "name": "squall-ratings", "annotations": map[string]any{objects.HostAnnotation: "ratings"}},
		"spec": map[string]any{
			"hosts": []any{"ratings"}, "exportTo": []any{"."},
			"http": []any{map[string]any{"fault": map[string]any{"abort": map[string]any{"httpStatus": int64(503)}}}},
		},
	}}, run), objects.Ref{APIVersion: "batch/v1", Kind: "Job", Namespace: "shop", Name: job.GetName(), UID: "uid-of-job"})
	return job, service
}

// set returns a change that sets a field; nil removes it.
func set(value any, path ...string) func(*unstructured.Unstructured) {
	return func(object *unstructured.Unstructured) {
		if value == nil {
			unstructured.RemoveNestedField(object.Object, path...)
			return
		}
		if err := unstructured.SetNestedField(object.Object, value, path...); err != nil {
			panic(err)
		}
	}
}

func TestCompare(t *testing.T) {
	job, service := sentObjects()
	const labels, annotations = "labels", "annotations"
	for name, test := range map[string]struct {
		object *unstructured.Unstructured
		change func(*unstructured.Unstructured)
		want   string
	}{
		"a Job with what the API server adds": {job, func(o *unstructured.Unstructured) {
			set("uid", "metadata", "uid")(o)
			set("other", "metadata", labels, "other")(o)
			set("2", "metadata", annotations, "deployment")(o)
			set(false, "spec", "suspend")(o)
			set("NonIndexed", "spec", "completionMode")(o)
			set("kubernetes.io/job-controller", "spec", "managedBy")(o)
			set("ClusterFirst", "spec", "template", "spec", "dnsPolicy")(o)
		}, ""},
		"deadline":      {job, set(int64(3600), "spec", "activeDeadlineSeconds"), "spec.activeDeadlineSeconds of Job shop/squall-run-1 is 3600 instead of 15"},
		"no deadline":   {job, set(nil, "spec", "activeDeadlineSeconds"), "spec.activeDeadlineSeconds of Job shop/squall-run-1 is not set instead of 15"},
		"ttl":           {job, set(int64(86400), "spec", "ttlSecondsAfterFinished"), "spec.ttlSecondsAfterFinished of Job shop/squall-run-1 is 86400 instead of 0"},
		"no ttl":        {job, set(nil, "spec", "ttlSecondsAfterFinished"), "spec.ttlSecondsAfterFinished of Job shop/squall-run-1 is not set instead of 0"},
		"suspended":     {job, set(true, "spec", "suspend"), "spec.suspend of Job shop/squall-run-1 is true instead of false"},
		"parallelism":   {job, set(int64(1), "spec", "parallelism"), "spec.parallelism of Job shop/squall-run-1 is 1 instead of 0"},
		"completions":   {job, set(int64(0), "spec", "completions"), "spec.completions of Job shop/squall-run-1 is 0 instead of 1"},
		"backoff limit": {job, set(int64(6), "spec", "backoffLimit"), "spec.backoffLimit of Job shop/squall-run-1 is 6 instead of 0"},
		"controller":    {job, set("example.com/queue", "spec", "managedBy"), `spec.managedBy of Job shop/squall-run-1 is "example.com/queue" instead of "kubernetes.io/job-controller"`},
		"finalizer":     {job, set([]any{"example.com/keep"}, "metadata", "finalizers"), `metadata.finalizers of Job shop/squall-run-1 is ["example.com/keep"] instead of not set`},
		"owner of a Job": {
			job, set([]any{map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}}, "metadata", "ownerReferences"),
			`metadata.ownerReferences of Job shop/squall-run-1 is [{"apiVersion":"v1","kind":"ConfigMap","name":"a","uid":"b"}] instead of not set`,
		},
		"label":       {job, set(nil, "metadata", labels, objects.RunLabel), `metadata.labels[squall.dev/run] of Job shop/squall-run-1 is not set instead of "run-1"`},
		"other label": {job, set("helm", "metadata", labels, objects.ManagedByLabel), `metadata.labels[app.kubernetes.io/managed-by] of Job shop/squall-run-1 is "helm" instead of "squall"`},
		"annotation":  {job, set(nil, "metadata", annotations, objects.ExpiresAnnotation), `metadata.annotations[squall.dev/expires] of Job shop/squall-run-1 is not set instead of "2026-01-01T12:00:00Z"`},

		"a VirtualService as decoded from JSON": {service, func(o *unstructured.Unstructured) {
			set("7", "metadata", "resourceVersion")(o)
			http := []any{map[string]any{"fault": map[string]any{"abort": map[string]any{"httpStatus": float64(503)}}}}
			set(http, "spec", "http")(o)
		}, ""},
		"no fault":           {service, set([]any{map[string]any{}}, "spec", "http"), `spec.http[0].fault of VirtualService shop/squall-ratings is not set instead of {"abort":{"httpStatus":503}}`},
		"another route":      {service, set([]any{}, "spec", "http"), `spec.http of VirtualService shop/squall-ratings is [] instead of [{"fault":{"abort":{"httpStatus":503}}}]`},
		"exported":           {service, set([]any{"*"}, "spec", "exportTo"), `spec.exportTo[0] of VirtualService shop/squall-ratings is "*" instead of "."`},
		"gateways":           {service, set([]any{"mesh"}, "spec", "gateways"), `spec.gateways of VirtualService shop/squall-ratings is ["mesh"] instead of not set`},
		"no owner":           {service, set(nil, "metadata", "ownerReferences"), `metadata.ownerReferences of VirtualService shop/squall-ratings is not set instead of [{"apiVersion":"batch/v1","kind":"Job","name":"squall-run-1","uid":"uid-of-job"}]`},
		"kept by a program":  {service, set([]any{"example.com/keep"}, "metadata", "finalizers"), `metadata.finalizers of VirtualService shop/squall-ratings is ["example.com/keep"] instead of not set`},
		"without its label":  {service, set(nil, "metadata", labels, objects.ManagedByLabel), `metadata.labels[app.kubernetes.io/managed-by] of VirtualService shop/squall-ratings is not set instead of "squall"`},
		"of another host":    {service, set("reviews", "metadata", annotations, objects.HostAnnotation), `metadata.annotations[squall.dev/host] of VirtualService shop/squall-ratings is "reviews" instead of "ratings"`},
		"of other run":       {service, set("run-2", "metadata", labels, objects.RunLabel), `metadata.labels[squall.dev/run] of VirtualService shop/squall-ratings is "run-2" instead of "run-1"`},
		"with another label": {service, set("x", "metadata", labels, "team"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			stored := test.object.DeepCopy()
			test.change(stored)
			err := objects.Compare(test.object, stored)
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			if _, is := errors.AsType[*objects.ChangedError](err); err != nil && !is {
				t.Errorf("error %T", err)
			}
		})
	}
}
