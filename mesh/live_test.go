package mesh_test

import (
	"strings"
	"testing"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/meshtest"
	"github.com/squall-chaos/squall/mesh/objects"
)

// fake returns a VirtualService with the labels of a run.
func fake(name, spec string) string {
	return strings.Replace(meshtest.VirtualService(name, spec), "metadata: {", "metadata: {labels: {app.kubernetes.io/managed-by: squall, squall.dev/run: never-ends}, annotations: {squall.dev/host: "+host+", squall.dev/callers: shop}, creationTimestamp: 2026-06-01T00:00:00Z, ", 1)
}

// Labels and annotations alone do not block a run: the object must be effective for the
// callers, as any other VirtualService.
func TestOnlyAnEffectiveObjectBlocks(t *testing.T) {
	plain := func(exportTo string) string {
		return "{hosts: [" + host + "], exportTo: [" + exportTo + "], http: [{route: [{destination: {host: " + host + "}}]}]}"
	}
	for _, test := range []struct {
		name    string
		objects []string
		blocks  string // empty: it is idle
	}{
		{"private to another namespace", []string{fake("prod/mine", plain("."))}, ""},
		{"exported to the callers", []string{fake("prod/mine", plain("shop"))}, "prod/mine"},
		{"younger than the public one", []string{meshtest.VirtualService("prod/a", plain("'*'")), fake("prod/mine", plain("'*'"))}, ""},
		{"exported by name, before the public one", []string{meshtest.VirtualService("prod/a", plain("'*'")), fake("prod/mine", plain("shop"))}, "prod/mine"},
		{"for another host", []string{fake("shop/mine", "{hosts: [removed.squall.internal], exportTo: [.], http: [{route: [{destination: {host: removed.squall.internal}}]}]}")}, ""},
		{"without a route for the callers", []string{fake("prod/mine", strings.Replace(plain("shop"), "{route", "{match: [{sourceNamespace: cart}], route", 1))}, ""},
		{"the name of the new object", []string{fake("shop/"+objects.Name(host, "shop"), "{hosts: [removed.squall.internal]}")}, "shop/" + objects.Name(host, "shop")},
		{"not imported by the Sidecar", []string{
			fake("istio-system/mine", plain("shop")),
			"{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {namespace: shop, name: default}, spec: {egress: [{hosts: ['./*', 'prod/*']}]}}",
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			snapshot, e := meshtest.Snapshot(t, test.objects...), meshtest.Experiment(t)
			refusal, refused := decide(snapshot, e).Refusal()
			blocked := refused && refusal.Blocker != (objects.Key{})
			if blocked != (test.blocks != "") || blocked && !strings.Contains(refusal.Reason, ", with VirtualService "+test.blocks) {
				t.Errorf("refusal %+v", refusal)
			}
			if idle := mesh.Idle(snapshot, e); (len(idle) > 0) == blocked && !strings.HasPrefix(test.name, "the name") {
				t.Errorf("idle %v", idle)
			}
		})
	}
}
