package runner_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/runnertest"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// add creates an object of a user.
func add(namespace, name string, spec map[string]any) func(*runnertest.Cluster) {
	return func(c *runnertest.Cluster) {
		object := base("5s")
		object.SetNamespace(namespace)
		object.SetName(name)
		object.SetUID("later")
		maps.Copy(object.Object["spec"].(map[string]any), spec)
		c.Edit(func(all map[string]*unstructured.Unstructured) { all[objects.RefTo(object).String()] = object })
	}
}

// sidecar creates a Sidecar of shop.
func sidecar(egress ...any) func(*runnertest.Cluster) {
	return func(c *runnertest.Cluster) {
		c.EditMesh(func(s *config.Snapshot) {
			s.Sidecars = []*unstructured.Unstructured{{Object: map[string]any{
				"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": map[string]any{"namespace": "shop", "name": "narrow"},
				"spec": map[string]any{"egress": []any{map[string]any{"hosts": egress}}},
			}}}
		})
	}
}

// rule creates a DestinationRule for the target.
func rule(c *runnertest.Cluster) {
	c.EditMesh(func(s *config.Snapshot) {
		s.DestinationRules = []*unstructured.Unstructured{{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": map[string]any{"namespace": "prod", "name": "ratings"},
			"spec": map[string]any{"host": "ratings.prod.svc.cluster.local", "trafficPolicy": map[string]any{"connectionPool": map[string]any{"tcp": map[string]any{"connectTimeout": "1s"}}}},
		}}}
	})
}

// A change of the mesh with which the fault would not hit as planned ends the run within
// five seconds, and any other does not.
func TestAChangeOfTheMesh(t *testing.T) {
	for name, test := range map[string]struct {
		home   string
		edit   func(*experiments.Experiment)
		before func(*runnertest.Cluster)
		change func(*runnertest.Cluster)
		ends   string // why the run ends, or nothing when it goes on
	}{
		"a VirtualService appears":         {change: add("prod", "ratings", nil), ends: "other routes are effective now: VirtualService prod/ratings has those for the calls from shop to ratings.prod"},
		"a private one outranks the fault": {home: "prod", change: add("shop", "ratings", map[string]any{"exportTo": []any{"."}}), ends: "VirtualService shop/ratings is effective and private to shop"},
		"a private one, with a base": {
			home: "prod", before: addBase, change: add("shop", "ratings", map[string]any{"exportTo": []any{"."}}), ends: "VirtualService shop/ratings is effective and private to shop",
		},
		"a Sidecar without the target":         {change: sidecar("shop/*"), ends: "Sidecar shop/narrow does not import ratings.prod.svc.cluster.local"},
		"a Sidecar without the home namespace": {home: "other", change: sidecar("shop/*", "prod/*"), ends: "an object in other does not take precedence for the calls from shop"},
		"a Sidecar with all":                   {change: sidecar("*/*")},
		"the target is deleted":                {change: func(c *runnertest.Cluster) { c.EditMesh(func(s *config.Snapshot) { s.Services = nil }) }, ends: "ratings.prod.svc.cluster.local"},
		"the settings of a diverted call":      {edit: blackhole, before: rule, change: func(c *runnertest.Cluster) { c.EditMesh(func(s *config.Snapshot) { s.DestinationRules = nil }) }, ends: "other objects would carry the fault"},
		"settings that a fault does not need":  {change: rule},
		"another host":                         {change: add("prod", "details", map[string]any{"hosts": []any{"details.prod.svc.cluster.local"}})},
		"another namespace": {change: func(c *runnertest.Cluster) {
			c.EditMesh(func(s *config.Snapshot) {
				s.Namespaces = map[string]map[string]string{"shop": {}, "prod": {}, "new": {}}
			})
		}},
		"a VirtualService of another run": {home: "prod", change: func(c *runnertest.Cluster) {
			add("shop", "other", map[string]any{"exportTo": []any{"."}})(c)
			c.Edit(func(all map[string]*unstructured.Unstructured) {
				all["VirtualService shop/other"] = objects.Stamp(all["VirtualService shop/other"], objects.Run{ID: "other", Expires: time.Now().Add(time.Hour)})
			})
		}, ends: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, rec := newCluster(t), &record{}
				c.EditMesh(func(s *config.Snapshot) {
					s.Namespaces = map[string]map[string]string{"shop": {}, "prod": {}, "other": {}}
				})
				if test.before != nil {
					test.before(c)
				}
				var changed time.Time
				time.AfterFunc(8100*time.Millisecond, func() { changed = time.Now(); test.change(c) })
				e := experiment(t)
				if test.edit != nil {
					test.edit(&e)
				}
				r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(c), Options: mesh.Options{HomeNamespace: test.home}})
				result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, rec)
				limit := 5 * time.Second
				if strings.Contains(name, "another run") {
					limit = 9 * time.Second // it may yet yield
				}
				switch noticed := rec.phases[event.PhaseRollback].Sub(changed); {
				case test.ends == "" && result.Status == event.StatusCompleted:
				case test.ends == "", result.Status != event.StatusStopped, result.Verdict != steadystate.Inconclusive, noticed > limit,
					!strings.Contains(result.Reason, "the mesh was changed while the fault was active"), !strings.Contains(result.Reason, test.ends), result.Hint == "":
					t.Errorf("noticed after %s: %+v", noticed, result)
				}
			})
		})
	}
}

// A run that has just created its object yields, and does not end the one that it has
// found.
func TestARivalThatYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		time.AfterFunc(7900*time.Millisecond, func() {
			add("shop", "other", map[string]any{"exportTo": []any{"."}})(c)
			c.Edit(func(all map[string]*unstructured.Unstructured) {
				all["VirtualService shop/other"] = objects.Stamp(all["VirtualService shop/other"], objects.Run{ID: "other", Expires: time.Now().Add(time.Hour)})
			})
		})
		time.AfterFunc(8500*time.Millisecond, func() {
			c.Edit(func(all map[string]*unstructured.Unstructured) { delete(all, "VirtualService shop/other") })
		})
		e := experiment(t)
		r := newRunner(t, runner.Config{Cluster: c, Querier: healthy(c), Options: mesh.Options{HomeNamespace: "prod"}})
		if result := r.Run(t.Context(), r.NewRun(e, time.Now()), e, &record{}); result.Verdict != steadystate.Held {
			t.Errorf("result %+v", result)
		}
	})
}

// A mesh that takes long to read is read for a tenth of the time at most.
func TestLooksAtTheMeshAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		looks, reading := 0, false
		c.On("create VirtualService", func() { reading = true })
		c.On("delete VirtualService", func() { reading = false })
		c.On("snapshot", func() {
			if reading {
				looks++
				time.Sleep(time.Second)
			}
		})
		run(t, c, healthy(c), func(e *experiments.Experiment) { e.Spec.Duration.Duration = 2 * time.Minute }, &record{}, forever)
		if looks < 8 || looks > 12 {
			t.Errorf("%d looks in 120 seconds", looks)
		}
	})
}

// A reading of the mesh that fails after some time does not delay the next one.
func TestAReadingThatFailsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, rec, reading := newCluster(t), &record{}, false
		c.On("create VirtualService", func() { reading = true })
		c.On("snapshot", func() {
			if reading {
				reading = false
				c.Fail("snapshot", errors.New("boom"))
				time.Sleep(6 * time.Second)
			}
		})
		var changed time.Time
		time.AfterFunc(15*time.Second, func() { changed = time.Now(); add("prod", "ratings", nil)(c) })
		result := run(t, c, healthy(c), func(e *experiments.Experiment) { e.Spec.Duration.Duration = time.Minute }, rec, forever)
		if noticed := rec.phases[event.PhaseRollback].Sub(changed); result.Status != event.StatusStopped || noticed > 5*time.Second {
			t.Errorf("noticed after %s: %+v", noticed, result)
		}
	})
}
