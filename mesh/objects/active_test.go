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
	late.Expires = noon.Add(-time.Hour)
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
			noon.Add(15 * time.Second), noon.Add(-time.Hour), false, false,
		},
		{
			"its expiry has passed, and it has no heartbeat",
			objects.Owned{Objects: []*unstructured.Unstructured{found("VirtualService", "vs", late, "")}},
			time.Time{},
			noon.Add(-time.Hour), true, true,
		},
		{
			"its expiry has passed, and its heartbeat may not be read",
			objects.Owned{Objects: []*unstructured.Unstructured{found("VirtualService", "vs", late, "uid-of-job")}, Unread: []objects.Unread{{Kind: "Job"}}},
			time.Time{},
			noon.Add(-time.Hour), false, false,
		},
		{
			"the deadline of its heartbeat has passed",
			objects.Owned{Objects: []*unstructured.Unstructured{beating(run, "2026-01-01T11:59:00Z", 25), found("VirtualService", "vs", run, "uid-of-job")}},
			noon.Add(-35 * time.Second), noon.Add(time.Minute), false, false,
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
			"its Job may not be listed",
			objects.Owned{Objects: []*unstructured.Unstructured{found("VirtualService", "vs", run, "uid-of-job")}, Unread: []objects.Unread{{Kind: "Job", Resource: "jobs.batch", Namespace: "shop"}}},
			time.Time{},
			noon.Add(time.Minute), false, false,
		},
		{
			"Jobs may not be listed, and it has none",
			objects.Owned{Objects: []*unstructured.Unstructured{found("VirtualService", "vs", run, "")}, Unread: []objects.Unread{{Kind: "Job"}}},
			time.Time{},
			noon.Add(time.Minute), false, true,
		},
		{
			"Jobs elsewhere may not be listed",
			objects.Owned{Objects: []*unstructured.Unstructured{found("VirtualService", "vs", run, "uid-of-job")}, Unread: []objects.Unread{{Kind: "Job", Resource: "jobs.batch", Namespace: "prod"}}},
			time.Time{},
			noon.Add(time.Minute), false, true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			runs := objects.ActiveRuns(test.owned)
			new(objects.Expiry).Mark(runs, objects.Reading{Server: noon})
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
	}})
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
			runs := objects.ActiveRuns(objects.Owned{Objects: []*unstructured.Unstructured{job, found("VirtualService", "vs", run, "uid-of-job")}})
			if fault := runs[0].Faults[0]; !fault.Orphaned || !fault.Heartbeat.IsZero() {
				t.Errorf("fault %+v", fault)
			}
		})
	}
}

// A Job says nothing about objects in other namespaces, whatever its labels are.
func TestARunIsInOneNamespace(t *testing.T) {
	run := objects.Run{ID: "run-1", Experiment: "outage", Owner: "ann@laptop", Expires: noon.Add(time.Minute)}
	foreign := objects.Run{ID: "run-1", Experiment: "mine", Owner: "eve", Expires: noon.Add(-time.Hour)}
	for _, also := range []string{"", "VirtualService"} {
		shot := beating(foreign, "2026-01-01T11:00:00Z", 1)
		shot.SetNamespace("tenant")
		shot.SetUID("uid-of-shot")
		shot.SetCreationTimestamp(metav1.NewTime(noon.Add(-time.Hour)))
		all := []*unstructured.Unstructured{shot, beating(run, "2026-01-01T11:59:50Z", 25), found("VirtualService", "vs", run, "uid-of-job")}
		if also != "" {
			theirs := found(also, "theirs", foreign, "uid-of-shot")
			theirs.SetNamespace("tenant")
			all = append(all, theirs)
		}
		expiry := objects.NewExpiry(20 * time.Second)
		for read := range 4 {
			at := noon.Add(time.Duration(read) * 30 * time.Second)
			_ = unstructured.SetNestedField(all[1].Object, int64(25+30*read), "spec", "activeDeadlineSeconds") // a new field always fits
			runs := objects.ActiveRuns(objects.Owned{Objects: all})
			expiry.Mark(runs, objects.Reading{Began: at, Ended: at, Server: at})
			if len(runs) != 2 || runs[0].Namespace != "tenant" || runs[1].Namespace != "shop" {
				t.Fatalf("runs %+v", runs)
			}
			if theirs := runs[0]; theirs.Expired != (read > 0) || theirs.Owner != "eve" {
				t.Errorf("reading %d: the tenant's run %+v", read, theirs)
			}
			if ours := runs[1]; ours.Expired || ours.Owner != "ann@laptop" || ours.Experiment != "outage" || !ours.Expires.Equal(run.Expires) || len(ours.Faults) != 1 || len(ours.Objects) != 2 {
				t.Errorf("reading %d: the run %+v", read, ours)
			}
		}
	}
}
