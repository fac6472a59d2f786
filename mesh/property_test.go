package mesh

import (
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/mesh/meshtest"
)

const propertyHost = "ratings.prod.svc.cluster.local"

// drawBase draws a VirtualService for the host with unknown fields.
func drawBase(t *rapid.T) *unstructured.Unstructured {
	var routes []any
	for i := range rapid.IntRange(1, 4).Draw(t, "routes") {
		route := map[string]any{
			"unknownOfRoute": float64(i),
			"route": []any{map[string]any{
				"destination": map[string]any{"host": propertyHost, "unknownOfDestination": "kept"}, "unknownOfWeighted": true,
			}},
		}
		if rapid.IntRange(0, 5).Draw(t, "redirects") == 0 {
			route = map[string]any{"unknownOfRoute": float64(i), "redirect": map[string]any{"uri": "/x"}}
		}
		var match []any
		for range rapid.IntRange(0, 2).Draw(t, "matches") {
			c := meshtest.Condition(t, true)
			c["unknownOfMatch"] = "kept"
			match = append(match, c)
		}
		if len(match) > 0 {
			route["match"] = match
		}
		routes = append(routes, route)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": map[string]any{"namespace": "prod", "name": "ratings"},
		"spec": map[string]any{"hosts": []any{propertyHost}, "http": routes, "unknownOfSpec": map[string]any{"kept": "yes"}},
	}}
}

func propertySnapshot(base *unstructured.Unstructured) config.Snapshot {
	return config.Snapshot{
		APIVersion: "networking.istio.io/v1", ClusterDomain: "cluster.local", Settings: config.Settings{RootNamespace: "istio-system"},
		VirtualServices: []*unstructured.Unstructured{base},
		Services:        []config.Service{{Namespace: "prod", Name: "ratings", Ports: []config.Port{{Number: 80, Name: "http", OfService: true}, {Number: 90, Name: "grpc", OfService: true}}}},
		Namespaces:      map[string]map[string]string{"shop": {}, "prod": {}},
	}
}

func propertyExperiment(t *rapid.T) experiments.Experiment {
	callers := rapid.SampledFrom([]string{"{namespace: shop}", "{namespace: shop, labels: {l1: x}}", "{namespace: shop, labels: {l1: x}}, {namespace: shop, labels: {l2: y}}"}).Draw(t, "callers")
	match := rapid.SampledFrom([]string{"", "match: [{headers: {h1: {exact: ab}}}]", "match: [{headers: {h1: {prefix: a}}}, {uri: {exact: /a}}]", "match: [{method: {exact: a}}]"}).Draw(t, "match")
	loaded, err := files.Load("property", strings.NewReader(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: outage}
spec:
  target: {host: `+propertyHost+`}
  callers: [`+callers+`]
  `+match+`
  faults: [{abort: {httpStatus: 503}, percentage: 50}, {delay: {fixedDelay: 1s}, percentage: 20, match: [{headers: {h2: {exact: b}}}]}]
  duration: 2m
  steadyState: {probes: []}
  effect: {minRequests: 0}
`))
	if err != nil {
		t.Fatal(err)
	}
	return loaded[0]
}

// For any effective routes: a second plan is equal, nothing unknown is lost, the
// snapshot is not modified, and without the clones and faults the routes are
// unchanged.
func TestRenderingKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		before := base.DeepCopy()
		e := propertyExperiment(t)
		plan := Decide(propertySnapshot(base), e, Options{})
		if !reflect.DeepEqual(base, before) {
			t.Fatal("the snapshot has changed")
		}
		if !reflect.DeepEqual(plan, Decide(propertySnapshot(base), e, Options{})) {
			t.Fatal("two plans of the same mesh differ")
		}
		if plan.Decisions[0].Placement == Shadow {
			checkNothingLost(t, plan.Objects[0], base)
		}
	})
}

func checkNothingLost(t *rapid.T, object, base *unstructured.Unstructured) {
	spec := fields.Map(object.Object, "spec")
	if !reflect.DeepEqual(spec["unknownOfSpec"], fields.Map(base.Object, "spec")["unknownOfSpec"]) {
		t.Fatal("a field of the spec is lost")
	}
	originals := fields.Maps(fields.Map(base.Object, "spec"), "http")
	next := 0
	for _, route := range fields.Maps(spec, "http") {
		for next < len(originals) && originals[next]["unknownOfRoute"] != route["unknownOfRoute"] {
			next++ // narrowed to nothing
		}
		if next == len(originals) {
			t.Fatalf("route %v is not of the base, or in another order", route)
		}
		stripped := runtime.DeepCopyJSON(route)
		for _, field := range []string{"match", "fault", "name"} {
			delete(stripped, field)
		}
		original := runtime.DeepCopyJSON(originals[next])
		delete(original, "match")
		if !reflect.DeepEqual(stripped, original) {
			t.Fatalf("route %v became %v", original, stripped)
		}
		for _, match := range fields.Maps(route, "match") {
			if len(fields.Maps(originals[next], "match")) > 0 && match["unknownOfMatch"] != "kept" {
				t.Fatalf("match %v has lost a field", match)
			}
		}
	}
}

// A fault whose requests no route can carry is refused, and nothing is drawn.
func TestAFaultThatMeetsNothingIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		e := propertyExperiment(t)
		exact := "zzz" // no word that a base can ask for
		e.Spec.Faults = e.Spec.Faults[:1]
		e.Spec.Match = []experiments.Match{{Headers: map[string]experiments.StringMatch{"h1": {Exact: &exact}}}}
		for _, route := range fields.Maps(fields.Map(base.Object, "spec"), "http") {
			route["match"] = []any{map[string]any{"headers": map[string]any{"h1": map[string]any{"exact": "a"}}}}
		}
		plan := Decide(propertySnapshot(base), e, Options{})
		if _, refused := plan.Refusal(); !refused || len(plan.Objects) > 0 {
			t.Fatalf("plan %+v", plan)
		}
	})
}
