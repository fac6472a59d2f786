package e2e_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// create makes an object of a user for the time of a test.
func create(t *testing.T, resource schema.GroupVersionResource, kind, namespace, name string, spec map[string]any) {
	t.Helper()
	client := mesh.Kube.Resource(resource).Namespace(namespace)
	_, err := client.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec,
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// A real client: the path of a gRPC call is its method.
func TestURIMatchHitsOnlyItsRequests(t *testing.T) {
	s := runFile(t, spec{match: "[{uri: {prefix: /grpc.health.v1.Health/}}]"})
	s.says("observe")
	inForce(t, reviews, ratings, true)
	wantCalls(t, "health checks", call(t, reviews, ratings), "UNAVAILABLE", true)
	s.signal(syscall.SIGTERM)
	s.exits(4)
	inForce(t, reviews, ratings, false)

	s = runFile(t, spec{match: "[{uri: {prefix: /shop.Ratings/}}]"})
	s.says("observe")
	inForce(t, reviews, ratings, true)
	wantCalls(t, "health checks", call(t, reviews, ratings), "OK", false)
	s.signal(syscall.SIGTERM)
	s.exits(4)
}

// An Envoy gets every condition; grpc-go knows only some of them.
func TestEveryMatchConditionReachesTheProxy(t *testing.T) {
	s := runFile(t, spec{match: `[{method: {exact: GET}, authority: {regex: "ratings.*"}, scheme: {exact: http}, queryParams: {debug: {exact: "on it"}}, withoutHeaders: {x-skip: {}}}]`})
	s.says("observe")
	inForce(t, reviews, ratings, true)
	routes, err := mesh.Routes(t.Context(), reviews, "--host", ratings)
	if err != nil {
		t.Fatal(err)
	}
	clone, _, _ := strings.Cut(routes, `"name": "ratings"`)
	for _, want := range []string{`":method"`, `":authority"`, `":scheme"`, `"debug"`, `"on it"`, `"x-skip"`, `"invertMatch": true`, "envoy.filters.http.fault"} {
		if !strings.Contains(clone, want) {
			t.Errorf("the clone lacks %s: %s", want, clone)
		}
	}
	s.signal(syscall.SIGTERM)
	s.exits(4)
}

// A wildcard is effective for the host. The shadow is for the one host only, and has
// the wildcard's other routes.
func TestShadowOfAWildcard(t *testing.T) {
	for _, name := range []string{"a", "b"} {
		create(t, serviceEntries, "ServiceEntry", "prod", "wild-"+name, map[string]any{
			"hosts": []any{name + ".wild.example"}, "location": "MESH_INTERNAL", "resolution": "STATIC",
			"ports":     []any{map[string]any{"number": int64(9080), "name": "grpc", "protocol": "GRPC"}},
			"endpoints": []any{map[string]any{"address": "127.0.0.13", "ports": map[string]any{"grpc": int64(9080)}}},
		})
	}
	create(t, virtualServices, "VirtualService", "prod", "wild", map[string]any{
		"hosts": []any{"*.wild.example"},
		"http": []any{
			map[string]any{
				"match": []any{map[string]any{"headers": map[string]any{"to": map[string]any{"exact": "b"}}}},
				"route": []any{map[string]any{"destination": map[string]any{"host": "b.wild.example"}}},
			},
			map[string]any{
				"timeout": "7s",
				"route":   []any{map[string]any{"destination": map[string]any{"host": "a.wild.example"}}},
			},
		},
	})
	inForceIs := func(host, name string) {
		t.Helper()
		eventually(t, func() error { return routesAreOf(t, host, name) })
	}
	inForceIs("a.wild.example", "/prod/virtual-service/wild")
	others, err := mesh.Routes(t.Context(), reviews, "--host", "b.wild.example")
	if err != nil {
		t.Fatal(err)
	}
	wantCalls(t, "before", call(t, reviews, "a.wild.example"), "OK", false)

	s := runFile(t, spec{target: "{host: a.wild.example}"})
	s.says("shadow in shop, outranks prod/wild (for *.wild.example)")
	s.says("observe")
	inForce(t, reviews, "a.wild.example", true)
	wantCalls(t, "the callers", call(t, reviews, "a.wild.example"), "UNAVAILABLE", true)
	wantCalls(t, "the wildcard's other host", call(t, reviews, "b.wild.example"), "OK", false)
	wantCalls(t, "other callers", call(t, "shop/other", "a.wild.example"), "OK", false)
	now, err := mesh.Routes(t.Context(), reviews, "--host", "b.wild.example")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(others, now); diff != "" {
		t.Errorf("routes of the wildcard's other host have changed: %s", diff)
	}
	s.signal(syscall.SIGTERM)
	s.exits(4)
	inForceIs("a.wild.example", "/prod/virtual-service/wild")
	wantCalls(t, "after", call(t, reviews, "a.wild.example"), "OK", false)
}

// routesAreOf checks that istiod names the VirtualService as the origin of a
// host's routes.
func routesAreOf(t *testing.T, host, name string) error {
	t.Helper()
	routes, err := mesh.Routes(t.Context(), reviews, "--host", host)
	if err == nil && !strings.Contains(routes, name+`"`) {
		err = errNotInForce
	}
	return err
}

// patchBase changes the VirtualService prod/ratings of a user, and restores its
// timeout at the end of the test.
func patchBase(t *testing.T, patch string) {
	t.Helper()
	base := mesh.Kube.Resource(virtualServices).Namespace("prod")
	if _, err := base.Patch(context.WithoutCancel(t.Context()), "ratings", types.JSONPatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A shadow of routes that have changed would bring the old ones back, so it is
// drawn again.
func TestShadowFollowsItsBase(t *testing.T) {
	timeout := func(value string) string {
		return `[{"op": "replace", "path": "/spec/http/0/timeout", "value": "` + value + `"}]`
	}
	s := runFile(t, spec{})
	s.says("observe")
	inForce(t, reviews, ratings, true)
	t.Cleanup(func() { patchBase(t, timeout("5s")) })
	changed := time.Now()
	patchBase(t, timeout("6s"))
	eventually(t, func() error {
		routes, err := mesh.Routes(t.Context(), reviews, "--host", ratings)
		if err == nil && (!strings.Contains(routes, `"timeout": "6s"`) || !strings.Contains(routes, "virtual-service/squall-")) {
			err = errNotInForce
		}
		return err
	})
	t.Logf("followed within %s, of which istiod takes about 0.2 s", time.Since(changed).Round(10*time.Millisecond))
	wantCalls(t, "the callers", call(t, reviews, ratings), "UNAVAILABLE", true)
	s.signal(syscall.SIGTERM)
	s.exits(4)
}

func TestRunEndsWhenItCannotFollow(t *testing.T) {
	s := runFile(t, spec{})
	s.says("observe")
	inForce(t, reviews, ratings, true)
	t.Cleanup(func() { patchBase(t, `[{"op": "remove", "path": "/spec/exportTo"}]`) })
	patchBase(t, `[{"op": "add", "path": "/spec/exportTo", "value": ["."]}]`)
	s.exits(3)
	if !strings.Contains(s.stdout.String(), "VirtualService prod/ratings was changed while the fault was active, and other routes are effective now") {
		t.Error("the summary does not say what has changed")
	}
}

// An object of the run is deleted or edited: the run must not continue as if its fault
// were still active.
func TestRunEndsWhenItsObjectIsTouched(t *testing.T) {
	for name, test := range map[string]struct {
		touch func(name string) error
		code  int // a deletion ends the run from outside
		want  string
	}{
		"deleted": {func(name string) error {
			return mesh.Kube.Resource(virtualServices).Namespace("shop").Delete(t.Context(), name, metav1.DeleteOptions{})
		}, 4, "was deleted while the fault was active"},
		"edited": {func(name string) error {
			_, err := mesh.Kube.Resource(virtualServices).Namespace("shop").Patch(t.Context(), name, types.JSONPatchType, []byte(`[{"op": "replace", "path": "/spec/http/0/fault/abort/percentage/value", "value": 1}]`), metav1.PatchOptions{})
			return err
		}, 3, "was changed while the fault was active"},
	} {
		t.Run(name, func(t *testing.T) {
			s := runFile(t, spec{})
			s.says("observe")
			inForce(t, reviews, ratings, true)
			list, err := mesh.Kube.Resource(virtualServices).Namespace("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
			if err != nil || len(list.Items) != 1 {
				t.Fatalf("%d objects: %v", len(list.Items), err)
			}
			if err := test.touch(list.Items[0].GetName()); err != nil {
				t.Fatal(err)
			}
			s.exits(test.code)
			if !strings.Contains(s.stdout.String(), test.want) {
				t.Errorf("the summary does not say %q", test.want)
			}
		})
	}
}

// A Sidecar that imports only prod ignores an object in shop, so the object is in prod
// and exported to shop.
func TestPlacementThatASidecarImports(t *testing.T) {
	create(t, sidecars, "Sidecar", "shop", "narrow", map[string]any{
		"workloadSelector": map[string]any{"labels": map[string]any{"app": "reviews"}},
		"egress":           []any{map[string]any{"hosts": []any{"prod/*"}}},
	})
	s := runFile(t, spec{})
	s.says("shadow in prod, outranks prod/ratings (public)")
	s.says("observe")
	inForce(t, reviews, ratings, true)
	wantCalls(t, "the callers", call(t, reviews, ratings), "UNAVAILABLE", true)
	wantCalls(t, "callers of the object's own namespace", call(t, "prod/reviews-v1", ratings), "OK", false)
	wantCalls(t, "callers with other labels", call(t, "shop/other", ratings), "OK", false)
	s.signal(syscall.SIGTERM)
	s.exits(4)
	inForce(t, reviews, ratings, false)
}

// The namespace that is asked for holds the object and its heartbeat.
func TestHomeNamespace(t *testing.T) {
	s := runFile(t, spec{}, "--home-namespace", "default")
	s.says("shadow in default, outranks prod/ratings (public)")
	s.says("observe")
	inForce(t, reviews, ratings, true)
	found, err := ours(t.Context())
	if err != nil || len(found) != 2 {
		t.Fatalf("objects %v: %v", found, err)
	}
	for _, object := range found {
		if !strings.Contains(object, " default/") {
			t.Errorf("%s stands elsewhere", object)
		}
	}
	wantCalls(t, "the callers", call(t, reviews, ratings), "UNAVAILABLE", true)
	s.signal(syscall.SIGTERM)
	s.exits(4)
}
