package liveruns_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

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
}

func (*scripted) Name() string { return "scripted" }

func (s *scripted) Server(context.Context) (kube.Server, error) {
	if len(s.failures) == 0 {
		return kube.Server{}, nil
	}
	err := s.failures[0]
	s.failures = s.failures[1:]
	return kube.Server{}, err
}

func (s *scripted) List(_ context.Context, namespace string) (objects.Owned, error) {
	s.listed = append(s.listed, namespace)
	return objects.Owned{Unread: s.unread[namespace]}, nil
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
		{name: "one namespace", lister: liveruns.Lister{Namespace: "prod", Fallback: "shop"}, listed: []string{"prod"}},
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
