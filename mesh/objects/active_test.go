package objects_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/squall-chaos/squall/mesh/objects"
)

// noon is the cluster's time in these tests.
var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// found returns an object of a run as the API server returns it.
func found(kind, name string, run objects.Run, owner types.UID) *unstructured.Unstructured {
	object := objects.Stamp(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": kind,
		"metadata": map[string]any{"namespace": "shop", "name": name, "uid": "uid-of-" + name},
	}}, run)
	object.SetCreationTimestamp(metav1.NewTime(noon.Add(-time.Minute)))
	if owner != "" {
		object.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "any", UID: owner}})
	}
	return object
}

// beating makes a heartbeat that started some time ago.
func beating(run objects.Run, started string, deadline int64) *unstructured.Unstructured {
	job := objects.Heartbeat("shop", run, time.Duration(deadline)*time.Second, objects.HeartbeatImage)
	job.SetUID("uid-of-job")
	job.SetCreationTimestamp(metav1.NewTime(noon.Add(-time.Minute)))
	if started != "" {
		_ = unstructured.SetNestedField(job.Object, started, "status", "startTime") // a new field always fits
	}
	return job
}

func TestActiveRunsSayWhenTheyEnd(t *testing.T) {
	run := objects.Run{ID: "run-1", Experiment: "outage", Owner: "ann@laptop", Expires: noon.Add(time.Minute)}
	late := run
	late.Expires = noon.Add(-time.Second)
	for _, test := range []struct {
		name               string
		owned              objects.Owned
		heartbeat, expires time.Time
		expired, orphaned  bool
	}{
		{
			"lives",
			objects.Owned{Objects: []*unstructured.Unstructured{beating(run, "2026-01-01T11:59:50Z", 25), found("VirtualService", "vs", run, "uid-of-job")}},
			noon.Add(15 * time.Second), noon.Add(time.Minute), false, false,
		},
		{
			"its expiry has passed",
			objects.Owned{Objects: []*unstructured.Unstructured{beating(late, "2026-01-01T11:59:50Z", 25), found("VirtualService", "vs", late, "uid-of-job")}},
			noon.Add(15 * time.Second), noon.Add(-time.Second), true, false,
		},
		{
			"its heartbeat has stopped",
			objects.Owned{Objects: []*unstructured.Unstructured{beating(run, "2026-01-01T11:59:00Z", 25), found("VirtualService", "vs", run, "uid-of-job")}},
			noon.Add(-35 * time.Second), noon.Add(time.Minute), true, false,
		},
		{
			"its heartbeat has not started",
			objects.Owned{Objects: []*unstructured.Unstructured{beating(run, "", 25), found("VirtualService", "vs", run, "uid-of-job")}},
			time.Time{},
			noon.Add(time.Minute), false, true,
		},
		{
			"its Job is gone",
			objects.Owned{Objects: []*unstructured.Unstructured{found("VirtualService", "vs", run, "uid-of-job")}},
			time.Time{},
			noon.Add(time.Minute), false, true,
		},
		{
			"the Job is not its owner",
			objects.Owned{Objects: []*unstructured.Unstructured{beating(run, "2026-01-01T11:59:50Z", 25), found("VirtualService", "vs", run, "")}},
			time.Time{},
			noon.Add(time.Minute), false, true,
		},
		{
			"nobody may list its Job",
			objects.Owned{Objects: []*unstructured.Unstructured{found("VirtualService", "vs", run, "uid-of-job")}, Unread: []objects.Unread{{Kind: "Job", Resource: "jobs.batch", Namespace: "shop"}}},
			time.Time{},
			noon.Add(time.Minute), false, false,
		},
		{
			"nobody may list Jobs elsewhere",
			objects.Owned{Objects: []*unstructured.Unstructured{found("VirtualService", "vs", run, "uid-of-job")}, Unread: []objects.Unread{{Kind: "Job", Resource: "jobs.batch", Namespace: "prod"}}},
			time.Time{},
			noon.Add(time.Minute), false, true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			runs := objects.ActiveRuns(test.owned, noon)
			if len(runs) != 1 || len(runs[0].Faults) != 1 {
				t.Fatalf("runs %+v", runs)
			}
			got := runs[0]
			if !got.Expires.Equal(test.expires) || !got.Faults[0].Heartbeat.Equal(test.heartbeat) || got.Expired != test.expired || got.Faults[0].Orphaned != test.orphaned {
				t.Errorf("run %+v", got)
			}
			if got.Experiment != "outage" || got.Owner != "ann@laptop" || !got.Created.Equal(noon.Add(-time.Minute)) {
				t.Errorf("run %+v", got)
			}
		})
	}
}

func TestActiveRunsInTheirOrder(t *testing.T) {
	older, younger := objects.Run{ID: "b"}, objects.Run{ID: "a"}
	job := beating(older, "2026-01-01T11:59:50Z", 25)
	job.SetCreationTimestamp(metav1.NewTime(noon.Add(-time.Hour)))
	job.SetAnnotations(map[string]string{objects.StoppedByAnnotation: "bob@phone", objects.ExpiresAnnotation: "soon"})
	foreign := found("VirtualService", "foreign", objects.Run{}, "")
	runs := objects.ActiveRuns(objects.Owned{Objects: []*unstructured.Unstructured{
		found("ServiceEntry", "se", younger, ""), found("VirtualService", "vs-2", younger, ""), foreign, job, found("VirtualService", "vs-1", younger, ""),
	}}, noon)
	var got []string
	for _, run := range runs {
		for _, ref := range run.Objects {
			got = append(got, run.ID+": "+ref.Removal())
		}
	}
	want := []string{
		"b: kubectl -n shop delete job squall-b",
		"a: kubectl -n shop delete virtualservice vs-1",
		"a: kubectl -n shop delete virtualservice vs-2",
		"a: kubectl -n shop delete serviceentry se",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if runs[0].StoppedBy != "bob@phone" || !runs[0].Expires.IsZero() || len(runs[0].Heartbeats()) != 1 {
		t.Errorf("run %+v", runs[0])
	}
}

// A fault is orphaned if no deadline counts for it.
func TestAWeakenedHeartbeatGuardsNothing(t *testing.T) {
	run := objects.Run{ID: "run-1", Experiment: "outage", Owner: "ann@laptop", Expires: noon.Add(time.Minute)}
	for name, change := range map[string]func(*unstructured.Unstructured){
		"suspended":          set(true, "spec", "suspend"),
		"another controller": set("example.com/queue", "spec", "managedBy"),
		"stays when failed":  set(int64(86400), "spec", "ttlSecondsAfterFinished"),
		"stays for ever":     set(nil, "spec", "ttlSecondsAfterFinished"),
		"no deadline":        set(nil, "spec", "activeDeadlineSeconds"),
	} {
		t.Run(name, func(t *testing.T) {
			job := beating(run, "2026-01-01T11:59:50Z", 25)
			change(job)
			runs := objects.ActiveRuns(objects.Owned{Objects: []*unstructured.Unstructured{job, found("VirtualService", "vs", run, "uid-of-job")}}, noon)
			if fault := runs[0].Faults[0]; !fault.Orphaned || !fault.Heartbeat.IsZero() {
				t.Errorf("fault %+v", fault)
			}
		})
	}
}
