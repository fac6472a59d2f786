package liveruns_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh/objects"
)

// scripted is a cluster that fails with errors, one after another, before it
// answers.
type scripted struct {
	failures []error
	// unread are the permissions that are missing in each namespace.
	unread map[string][]objects.Unread
	// listed are the namespaces that were listed.
	listed []string
	// objects returns the objects of all namespaces, and ahead is how far the server's
	// clock is ahead.
	objects func() []*unstructured.Unstructured
	ahead   time.Duration
}

func (*scripted) Name() string { return "scripted" }

func (s *scripted) Server(context.Context) (kube.Server, error) {
	if len(s.failures) == 0 {
		return kube.Server{Time: time.Now().Add(s.ahead)}, nil
	}
	err := s.failures[0]
	s.failures = s.failures[1:]
	return kube.Server{}, err
}

func (s *scripted) List(_ context.Context, namespace string) (objects.Owned, error) {
	s.listed = append(s.listed, namespace)
	owned := objects.Owned{Unread: s.unread[namespace]}
	if s.objects != nil {
		owned.Objects = slices.DeleteFunc(s.objects(), func(object *unstructured.Unstructured) bool {
			return namespace != "" && object.GetNamespace() != namespace
		})
	}
	return owned, nil
}

var (
	noFaults = objects.Unread{Kind: "VirtualService", Resource: "virtualservices.networking.istio.io"}
	noJobs   = objects.Unread{Kind: "Job", Resource: "jobs.batch"}
)

func TestListFallsBackToOneNamespace(t *testing.T) {
	inShop := noFaults
	inShop.Namespace = "shop"
	for _, test := range []struct {
		name   string
		lister liveruns.Lister
		unread map[string][]objects.Unread
		listed []string
		fails  bool
	}{
		{name: "all", lister: liveruns.Lister{Fallback: "shop"}, listed: []string{""}},
		{name: "no Jobs", lister: liveruns.Lister{Fallback: "shop"}, unread: map[string][]objects.Unread{"": {noJobs}}, listed: []string{""}},
		{name: "one namespace", lister: liveruns.Lister{Namespace: "prod", Fallback: "shop"}, listed: []string{"", "prod"}},
		{name: "fallback", lister: liveruns.Lister{Fallback: "shop"}, unread: map[string][]objects.Unread{"": {noFaults}}, listed: []string{"", "shop"}},
		{name: "nothing", lister: liveruns.Lister{Fallback: "shop"}, unread: map[string][]objects.Unread{"": {noFaults}, "shop": {inShop}}, listed: []string{"", "shop"}, fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			cluster := &scripted{unread: test.unread}
			test.lister.Cluster = cluster
			listing, err := test.lister.List(t.Context())
			if (err != nil) != test.fails || err != nil && hint.Of(err) == "" {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(test.listed, cluster.listed); diff != "" {
				t.Error(diff)
			}
			if want := test.listed[len(test.listed)-1]; err == nil && listing.Namespace != want {
				t.Errorf("namespace %q, want %q", listing.Namespace, want)
			}
		})
	}
}

func TestListRetrying(t *testing.T) {
	down := errors.New("connection refused")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "virtualservices"}, "", errors.New("no"))
	for _, test := range []struct {
		name     string
		failures []error
		took     time.Duration
		reports  int
		fails    error
	}{
		{name: "at once"},
		{name: "third attempt", failures: []error{down, down}, took: 600 * time.Millisecond, reports: 1},
		{name: "permissions", failures: []error{forbidden}, fails: forbidden},
		{name: "never", failures: []error{down, down, down, down, down, down, down, down, down, down, down, down}, took: 20 * time.Second, reports: 1, fails: down},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				began, reports := time.Now(), 0
				_, err := liveruns.Lister{Cluster: &scripted{failures: test.failures}}.ListRetrying(ctx, func(error) { reports++ })
				if took := time.Since(began); took != test.took || reports != test.reports || !errors.Is(err, test.fails) {
					t.Errorf("took %s, %d reports, error %v", took, reports, err)
				}
			})
		})
	}
}

// faultIn returns a VirtualService in a namespace for callers in another one, and its
// Job if it has a deadline.
func faultIn(namespace, callers, run string, deadline time.Duration) []*unstructured.Unstructured {
	stamp := objects.Run{ID: run, Experiment: "outage", Owner: "ann", Expires: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	fault := objects.Stamp(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": map[string]any{"namespace": namespace, "name": "vs-" + run}}}, stamp)
	annotations := fault.GetAnnotations()
	annotations[objects.HostAnnotation], annotations[objects.CallersAnnotation] = "ratings", callers
	fault.SetAnnotations(annotations)
	if deadline == 0 {
		return []*unstructured.Unstructured{fault}
	}
	job := objects.Heartbeat(namespace, stamp, deadline, objects.HeartbeatImage)
	job.SetUID(types.UID("job-of-" + run))
	return []*unstructured.Unstructured{objects.Own(fault, objects.RefTo(job)), job}
}

// -n selects the faults on the calls from a namespace, and the objects in it.
func TestListOfOneNamespace(t *testing.T) {
	cluster := &scripted{objects: func() []*unstructured.Unstructured {
		return slices.Concat(faultIn("shop", "cart", "in", 0), faultIn("prod", "shop", "from", 0), faultIn("prod", "cart", "other", 0))
	}}
	listing, err := liveruns.Lister{Cluster: cluster, Namespace: "shop"}.List(t.Context())
	var ids []string
	for _, run := range listing.Runs {
		ids = append(ids, run.ID)
	}
	slices.Sort(ids)
	if diff := cmp.Diff([]string{"from", "in"}, ids); err != nil || diff != "" || !listing.Complete() {
		t.Errorf("error %v: %s", err, diff)
	}
	cluster.unread = map[string][]objects.Unread{"": {noFaults}}
	listing, err = liveruns.Lister{Cluster: cluster, Namespace: "shop"}.List(t.Context())
	if err != nil || len(listing.Runs) != 1 || listing.Complete() {
		t.Errorf("listing %+v, error %v", listing, err)
	}
}

// Whether a heartbeat is dead is known from two listings, and not from the clocks.
func TestListExpired(t *testing.T) {
	for _, ahead := range []time.Duration{-10 * time.Minute, -time.Minute, time.Minute, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			cluster := &scripted{ahead: ahead, objects: func() []*unstructured.Unstructured {
				return slices.Concat(faultIn("shop", "shop", "live", time.Since(began).Truncate(5*time.Second)+15*time.Second), faultIn("prod", "shop", "dead", 15*time.Second))
			}}
			watched := 0
			listing, err := liveruns.Lister{Cluster: cluster}.ListExpired(t.Context(), func(error) {}, func(runs int, _ time.Duration) { watched = runs })
			if err != nil || watched != 2 || time.Since(began) != 20*time.Second || len(listing.Runs) != 2 {
				t.Fatalf("%d runs were watched for %s: %+v, error %v", watched, time.Since(began), listing, err)
			}
			for _, run := range listing.Runs {
				if run.Expired != (run.ID == "dead") {
					t.Errorf("%s: run %s: expired %t", ahead, run.ID, run.Expired)
				}
			}
		})
	}
}
