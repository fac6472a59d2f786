package mesh_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/meshtest"
	"github.com/squall-chaos/squall/mesh/objects"
)

const host = meshtest.Host

// decide plans without any preference.
func decide(s config.Snapshot, e experiments.Experiment) mesh.Plan {
	return mesh.Decide(s, e, mesh.Options{})
}

const (
	public      = "{hosts: [ratings], http: [{route: [{destination: {host: ratings}}], timeout: 5s}]}"
	labelled    = "callers: [{namespace: shop, labels: {app: reviews}}]"
	headerMatch = "duration: 2m\n  match: [{headers: {end-user: {exact: jason}}}]"
)

// wantSpec compares the only object of a plan with a spec in YAML.
func wantSpec(t *testing.T, plan mesh.Plan, spec string) {
	t.Helper()
	if refusal, refused := plan.Refusal(); refused {
		t.Fatalf("refused: %s", refusal.Reason)
	}
	if len(plan.Objects) != 1 {
		t.Fatalf("%d objects", len(plan.Objects))
	}
	var want any
	if err := yaml.Unmarshal([]byte(spec), &want); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(plan.Objects[0].Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(encoded, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPlainWhereNothingIsInForce(t *testing.T) {
	e := meshtest.Experiment(t)
	plan := decide(meshtest.Snapshot(t), e)
	wantSpec(t, plan, `
hosts: [ratings.prod.svc.cluster.local]
exportTo: [.]
http:
- name: default
  fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
  route: [{destination: {host: ratings.prod.svc.cluster.local}}]
`)
	want := mesh.Decision{Host: host, Callers: "shop", Placement: mesh.Plain, Namespace: "shop", ExportTo: []string{"."}, Reason: "no VirtualService is effective for " + host + " in shop", Injections: e.Spec.Injections()}
	if diff := cmp.Diff([]mesh.Decision{want}, plan.Decisions, cmpopts.IgnoreFields(mesh.Decision{}, "Before", "During", "Signature")); diff != "" {
		t.Error(diff)
	}
	if object := plan.Objects[0]; object.GetNamespace() != "shop" || object.GetName() != objects.Name(host, "shop") || object.GetAPIVersion() != "networking.istio.io/v1" {
		t.Errorf("object %s %s/%s", object.GetAPIVersion(), object.GetNamespace(), object.GetName())
	}
}

func TestPlainNarrowedHasADefaultRouteForTheOthers(t *testing.T) {
	wantSpec(t, decide(meshtest.Snapshot(t), meshtest.Experiment(t, "callers: [{namespace: shop}]", labelled, "duration: 2m", headerMatch, "namespace: prod", "namespace: prod, port: 9080")), `
hosts: [ratings.prod.svc.cluster.local]
exportTo: [.]
http:
- name: squall-outage
  match: [{sourceLabels: {app: reviews}, headers: {end-user: {exact: jason}}, port: 9080}]
  fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
  route: [{destination: {host: ratings.prod.svc.cluster.local}}]
- name: default
  match: [{sourceLabels: {app: reviews}, port: 9080}]
  route: [{destination: {host: ratings.prod.svc.cluster.local}}]
`)
}

func TestShadowOfAPublicVirtualService(t *testing.T) {
	plan := decide(meshtest.Snapshot(t, meshtest.VirtualService("prod/ratings", `
    {hosts: [ratings, other], gateways: [mesh, ingress], unknownField: {kept: true},
     http: [
      {name: canary, match: [{headers: {cookie: {regex: ".*canary.*"}}}], route: [{destination: {host: ratings, subset: v2}}]},
      {name: moved, match: [{uri: {prefix: /old}}], redirect: {uri: /new}},
      {route: [{destination: {host: ratings, subset: v1}, weight: 90}, {destination: {host: ratings.other.svc.cluster.local}, weight: 10}], retries: {attempts: 2}, mirror: {host: shadow}}],
     tcp: [{route: [{destination: {host: ratings}}]}]}`)), meshtest.Experiment(t))
	wantSpec(t, plan, `
hosts: [ratings.prod.svc.cluster.local]
exportTo: [.]
unknownField: {kept: true}
http:
- name: canary
  match: [{headers: {cookie: {regex: ".*canary.*"}}}]
  fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
  route: [{destination: {host: ratings.prod.svc.cluster.local, subset: v2}}]
- {name: moved, match: [{uri: {prefix: /old}}], redirect: {uri: /new}}
- fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
  route:
  - {destination: {host: ratings.prod.svc.cluster.local, subset: v1}, weight: 90}
  - {destination: {host: ratings.other.svc.cluster.local}, weight: 10}
  retries: {attempts: 2}
  mirror: {host: shadow.prod.svc.cluster.local}
`)
	if d := plan.Decisions[0]; d.Placement != mesh.Shadow || *d.Effective != "prod/ratings" || d.Reason != "shadow in shop, outranks prod/ratings (public)" {
		t.Errorf("decision %+v", d)
	}
}

func TestCloneStandsBeforeItsOriginal(t *testing.T) {
	wantSpec(t, decide(meshtest.Snapshot(t, meshtest.VirtualService("prod/ratings", `
    {hosts: [ratings.prod.svc.cluster.local],
     http: [
      {name: a, match: [{headers: {end-user: {exact: ann}}}], route: [{destination: {host: ratings.prod.svc.cluster.local}}]},
      {name: b, match: [{headers: {end-user: {prefix: ja}}}, {uri: {prefix: /x}}], route: [{destination: {host: ratings.prod.svc.cluster.local}}]},
      {name: squall-outage, match: [{uri: {prefix: /only}}], route: [{destination: {host: ratings.prod.svc.cluster.local}}]},
      {name: z, route: [{destination: {host: ratings.prod.svc.cluster.local}}]},
      {name: dead, route: [{destination: {host: ratings.prod.svc.cluster.local}}]}]}`)), meshtest.Experiment(t, "duration: 2m", headerMatch)), `
hosts: [ratings.prod.svc.cluster.local]
exportTo: [.]
http:
- {name: a, match: [{headers: {end-user: {exact: ann}}}], route: [{destination: {host: ratings.prod.svc.cluster.local}}]}
- name: squall-outage-2
  match: [{headers: {end-user: {exact: jason}}}]
  fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
  route: [{destination: {host: ratings.prod.svc.cluster.local}}]
- {name: b, match: [{headers: {end-user: {prefix: ja}}}, {uri: {prefix: /x}}], route: [{destination: {host: ratings.prod.svc.cluster.local}}]}
- {name: squall-outage, match: [{uri: {prefix: /only}}], route: [{destination: {host: ratings.prod.svc.cluster.local}}]}
- {name: z, route: [{destination: {host: ratings.prod.svc.cluster.local}}]}
- {name: dead, route: [{destination: {host: ratings.prod.svc.cluster.local}}]}
`)
}

// A match with gateways makes istiod ignore its source conditions, so a clone
// must not keep them together.
func TestCloneDropsGatewaysForSourceLabels(t *testing.T) {
	wantSpec(t, decide(meshtest.Snapshot(t, meshtest.VirtualService("prod/ratings", `
    {hosts: [ratings], gateways: [mesh, ingress],
     http: [
      {match: [{gateways: [mesh], sourceLabels: {app: ignored}, uri: {prefix: /a}}, {gateways: [ingress]}], route: [{destination: {host: ratings}}]}]}`)),
		meshtest.Experiment(t, "callers: [{namespace: shop}]", labelled)), `
hosts: [ratings.prod.svc.cluster.local]
exportTo: [.]
http:
- match: [{uri: {prefix: /a}, sourceLabels: {app: reviews}}]
  fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
  route: [{destination: {host: ratings.prod.svc.cluster.local}}]
`)
}

func TestFaultsAreWrittenInIstiosWords(t *testing.T) {
	wantSpec(t, decide(meshtest.Snapshot(t), meshtest.Experiment(t, "abort: {httpStatus: 503}, percentage: 50", "abort: {grpcStatus: UNAVAILABLE}, delay: {fixedDelay: 1m30.5s}, percentage: {value: 0.0001}")), `
hosts: [ratings.prod.svc.cluster.local]
exportTo: [.]
http:
- name: default
  fault:
    abort: {grpcStatus: UNAVAILABLE, percentage: {value: 0.0001}}
    delay: {fixedDelay: 90.5s, percentage: {value: 0.0001}}
  route: [{destination: {host: ratings.prod.svc.cluster.local}}]
`)
}

// A shadow of a wildcard is for the one host, and takes all of its routes
// along: an exact host outranks any wildcard.
func TestShadowOfAWildcard(t *testing.T) {
	plan := decide(meshtest.Snapshot(t, meshtest.VirtualService("prod/all", `
    {hosts: ["*.prod.svc.cluster.local"], exportTo: ["*"],
     http: [{match: [{uri: {prefix: /v2}}], route: [{destination: {host: v2}}]}, {route: [{destination: {host: ratings}}]}]}`)), meshtest.Experiment(t, "duration: 2m", "duration: 2m\n  match: [{uri: {prefix: /}, method: {exact: GET}}]"))
	wantSpec(t, plan, `
hosts: [ratings.prod.svc.cluster.local]
exportTo: [.]
http:
- name: squall-outage
  match: [{uri: {prefix: /v2}, method: {exact: GET}}]
  fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
  route: [{destination: {host: v2.prod.svc.cluster.local}}]
- match: [{uri: {prefix: /v2}}]
  route: [{destination: {host: v2.prod.svc.cluster.local}}]
- name: squall-outage-2
  match: [{uri: {prefix: /}, method: {exact: GET}}]
  fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
  route: [{destination: {host: ratings.prod.svc.cluster.local}}]
- route: [{destination: {host: ratings.prod.svc.cluster.local}}]
`)
	if reason := plan.Decisions[0].Reason; reason != "shadow in shop, outranks prod/all (for *.prod.svc.cluster.local)" {
		t.Error(reason)
	}
}

func TestTheOneInForceIsShadowed(t *testing.T) {
	other := strings.Replace(public, "5s", "7s", 1)
	named := strings.Replace(other, "{hosts", "{exportTo: [shop], hosts", 1)
	for _, test := range []struct {
		name    string
		objects []string
		want    string
	}{
		{"the older of two public ones", []string{meshtest.VirtualService("prod/a", public), meshtest.VirtualService("prod/b", other)}, "prod/a"},
		{"one exported by name before an older public one", []string{meshtest.VirtualService("prod/a", public), meshtest.VirtualService("prod/b", named)}, "prod/b"},
		{"an exact host before an older wildcard", []string{meshtest.VirtualService("prod/a", strings.Replace(public, "hosts: [ratings]", `hosts: ["*.prod.svc.cluster.local"]`, 1)), meshtest.VirtualService("prod/b", other)}, "prod/b"},
		{"a longer wildcard before an older shorter one", []string{
			meshtest.VirtualService("prod/a", strings.Replace(public, "hosts: [ratings]", `hosts: ["*.cluster.local", "*.svc.cluster.local"]`, 1)),
			meshtest.VirtualService("prod/b", strings.Replace(other, "hosts: [ratings]", `hosts: ["*.prod.svc.cluster.local"]`, 1)),
		}, "prod/b"},
		{"of equal wildcards the more private", []string{
			meshtest.VirtualService("prod/a", strings.Replace(public, "hosts: [ratings]", `hosts: ["*.prod.svc.cluster.local"]`, 1)),
			meshtest.VirtualService("shop/b", strings.Replace(other, "hosts: [ratings]", `exportTo: [.], hosts: ["*.prod.svc.cluster.local"]`, 1)),
		}, "shop/b"},
		{"of the same second by name", []string{
			strings.Replace(meshtest.VirtualService("prod/b", public), "name: b", "name: b, creationTimestamp: 2026-01-01T00:00:00Z", 1),
			strings.Replace(meshtest.VirtualService("prod/a", other), "name: a", "name: a, creationTimestamp: 2026-01-01T00:00:00Z", 1),
		}, "prod/a"},
		{"not one that is private elsewhere", []string{meshtest.VirtualService("prod/a", strings.Replace(public, "{hosts", "{exportTo: [.], hosts", 1)), meshtest.VirtualService("prod/b", other)}, "prod/b"},
		{"not one for a gateway only", []string{meshtest.VirtualService("prod/a", strings.Replace(public, "{hosts", "{gateways: [ingress], hosts", 1)), meshtest.VirtualService("prod/b", other)}, "prod/b"},
		{"not one whose short host means another namespace", []string{meshtest.VirtualService("shop/a", public), meshtest.VirtualService("prod/b", other)}, "prod/b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := decide(meshtest.Snapshot(t, test.objects...), meshtest.Experiment(t)).Decisions[0]
			if d.Placement != mesh.Shadow || d.Effective == nil || *d.Effective != test.want {
				t.Errorf("decision %+v", d)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		name    string
		objects []string
		edits   []string
		want    string
	}{
		{"unknown host", nil, []string{"host: ratings", "host: raitngs"}, "the mesh does not know the host raitngs.prod.svc.cluster.local"},
		{"no callers", nil, []string{"  callers: [{namespace: shop}]\n", ""}, "names no callers"},
		{"no such namespace", nil, []string{"callers: [{namespace: shop}]", "callers: [{namespace: shops}]"}, "there is no namespace shops"},
		{"private to the callers", []string{meshtest.VirtualService("shop/a", "{hosts: ["+host+"], exportTo: [.], http: [{route: [{destination: {host: "+host+"}}]}]}")}, nil, "shop/a is effective and private to shop"},
		{"only a redirect", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [{redirect: {uri: /}}]}")}, nil, "no http route"},
		{"two regexes", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [{match: [{headers: {end-user: {regex: a+}}}], route: [{destination: {host: ratings}}]}]}")}, []string{"duration: 2m", strings.Replace(headerMatch, "exact: jason", "regex: b+", 1)}, "headers end-user: one route condition cannot hold"},
		{"fault already", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [{fault: {abort: {httpStatus: 500, percentage: {value: 1}}}, route: [{destination: {host: ratings}}]}]}")}, []string{"duration: 2m", "duration: 2m\n  effect: {minRequests: 0}"}, "already has a fault"},
		{"split by port", []string{
			meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [{match: [{port: 80}], route: [{destination: {host: ratings}}]}]}"),
			meshtest.VirtualService("prod/b", public),
		}, nil, "has routes for some proxies or ports only"},
		{"only behind a catch-all redirect", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [{match: [{uri: {prefix: /}}], redirect: {uri: /x}}, {route: [{destination: {host: ratings}}]}]}")}, nil, "no http route"},
		{"only behind an empty match", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [{match: [{}], redirect: {uri: /x}}, {route: [{destination: {host: ratings}}]}]}")}, nil, "no http route"},
		{"routes for some of the callers", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [{match: [{sourceLabels: {app: x}}], route: [{destination: {host: ratings}}]}]}")}, nil, "would miss the others of shop"},
		{"routes for one port", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [{match: [{port: 80}], route: [{destination: {host: ratings}}]}]}")}, nil, "would miss the others of shop"},
		{"only behind a catch-all for the mesh", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], gateways: [mesh, in], http: [{match: [{gateways: [mesh]}], redirect: {uri: /x}}, {route: [{destination: {host: ratings}}]}]}")}, nil, "no http route"},
		{"one caller of two is not reached", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [{match: [{sourceLabels: {app: reviews}}], route: [{destination: {host: ratings}}]}]}")}, []string{"callers: [{namespace: shop}]", "callers: [{namespace: shop, labels: {app: reviews}}, {namespace: shop, labels: {app: other}}]"}, "do not use the same routes"},
		{"too many conditions", nil, []string{"callers: [{namespace: shop}]", "callers: [" + strings.Repeat("{namespace: shop, labels: {app: reviews}}, ", 33) + "]", "duration: 2m", "duration: 2m\n  match: [{headers: {a: {exact: b}}}, {headers: {a: {exact: c}}}]"}, "66 match conditions"},
		{"nulls and odd shapes", []string{meshtest.VirtualService("prod/a", "{hosts: [ratings], http: [null, 7, {match: [null, {headers: null}], route: null}, {route: {}}]}")}, nil, "no http route"},
		{"live run", []string{"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {namespace: shop, name: " + objects.Name(host, "shop") + ", labels: {app.kubernetes.io/managed-by: squall, squall.dev/run: other}, annotations: {squall.dev/host: " + host + ", squall.dev/callers: shop}}, spec: {hosts: [" + host + "]}}"}, nil, "run other already disturbs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan := decide(meshtest.Snapshot(t, test.objects...), meshtest.Experiment(t, test.edits...))
			refusal, refused := plan.Refusal()
			if !refused || !strings.Contains(refusal.Reason, test.want) {
				t.Fatalf("decision %+v", plan.Decisions)
			}
			if refusal.Hint == "" || refusal.Cause == "" {
				t.Errorf("hint %q, cause %q", refusal.Hint, refusal.Cause)
			}
			if len(plan.Objects) != 0 {
				t.Errorf("%d objects for a refusal", len(plan.Objects))
			}
		})
	}
}

func TestOtherRoutersAreRefused(t *testing.T) {
	route := func(parent string) *unstructured.Unstructured {
		return meshtest.Object(t, "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {namespace: prod, name: canary}, spec: {parentRefs: [null, "+parent+"]}}")
	}
	for _, test := range []struct {
		name string
		edit func(*config.Snapshot)
		want string
	}{
		{"HTTPRoute of the Service", func(s *config.Snapshot) {
			s.Routes = append(s.Routes, route("{group: '', kind: Service, name: ratings}"))
		}, "HTTPRoute prod/canary of the Gateway API"},
		{"HTTPRoute of the ServiceEntry", func(s *config.Snapshot) {
			s.ServiceEntries = append(s.ServiceEntries, meshtest.Object(t, "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {namespace: prod, name: entry}, spec: {hosts: ["+host+"]}}"))
			s.Routes = append(s.Routes, route("{group: networking.istio.io, kind: ServiceEntry, name: entry}"))
		}, "HTTPRoute prod/canary of the Gateway API"},
		{"HTTPRoute of the host", func(s *config.Snapshot) {
			s.Routes = append(s.Routes, route("{group: networking.istio.io, kind: Hostname, name: "+host+"}"))
		}, "HTTPRoute prod/canary of the Gateway API"},
		{"HTTPRoute of another Service", func(s *config.Snapshot) {
			s.Routes = append(s.Routes, route("{group: '', kind: Service, name: details}"))
		}, ""},
		{"HTTPRoute of a Gateway", func(s *config.Snapshot) { s.Routes = append(s.Routes, route("{name: ratings}")) }, ""},
		// Sidecars call the endpoints, not the waypoint.
		{"waypoint of the Service", func(s *config.Snapshot) {
			s.Services[0].Labels = map[string]string{"istio.io/use-waypoint": "w"}
		}, ""},
		{"waypoint of the namespace", func(s *config.Snapshot) { s.Namespaces["prod"]["istio.io/use-waypoint"] = "w" }, ""},
		{"ambient callers", func(s *config.Snapshot) { s.Namespaces["shop"]["istio.io/dataplane-mode"] = "ambient" }, "shop is ambient"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := meshtest.Snapshot(t)
			test.edit(&s)
			refusal, refused := decide(s, meshtest.Experiment(t)).Refusal()
			if refused != (test.want != "") || !strings.Contains(refusal.Reason, test.want) {
				t.Errorf("refused %v: %+v", refused, refusal)
			}
		})
	}
}

// An installation may make VirtualServices private by default.
func TestDefaultExportTo(t *testing.T) {
	s := meshtest.Snapshot(t, meshtest.VirtualService("prod/ratings", public))
	s.DefaultExportTo = []string{"."}
	if d := decide(s, meshtest.Experiment(t)).Decisions[0]; d.Placement != mesh.Plain {
		t.Errorf("one that is private elsewhere is in force: %+v", d)
	}
	s = meshtest.Snapshot(t, meshtest.VirtualService("shop/ratings", strings.ReplaceAll(public, "ratings", host)))
	s.DefaultExportTo = []string{"."}
	if d := decide(s, meshtest.Experiment(t)).Decisions[0]; d.Placement != mesh.Refused {
		t.Errorf("one that is private here is shadowed: %+v", d)
	}
}

// TestDecideLeavesTheSnapshotAlone guards the copies: a base that is changed
// in place would be compared and rendered wrongly later.
func TestDecideLeavesTheSnapshotAlone(t *testing.T) {
	s := meshtest.Snapshot(t, meshtest.VirtualService("prod/ratings", public))
	before := s.VirtualServices[0].DeepCopy()
	first := decide(s, meshtest.Experiment(t))
	second := decide(s, meshtest.Experiment(t))
	if diff := cmp.Diff(before, s.VirtualServices[0]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("two plans of the same snapshot differ: %s", diff)
	}
}

func TestRevisionIsKeptAndNothingElse(t *testing.T) {
	base := strings.Replace(meshtest.VirtualService("prod/ratings", public), "name: ratings", "name: ratings, labels: {istio.io/rev: canary, argocd.argoproj.io/instance: shop}, annotations: {a: b}", 1)
	s := meshtest.Snapshot(t, base)
	if refusal, refused := decide(s, meshtest.Experiment(t)).Refusal(); !refused || !strings.Contains(refusal.Reason, "for the control-plane revision canary only") {
		t.Errorf("callers of another revision: %+v", refusal)
	}
	s.Namespaces["shop"]["istio.io/rev"] = "canary"
	plan := decide(s, meshtest.Experiment(t))
	run := objects.Run{ID: "run-1", Experiment: "outage", Owner: "ann@laptop", Expires: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	stamped := objects.Stamp(plan.Objects[0], run)
	wantLabels := map[string]string{"istio.io/rev": "canary", objects.ManagedByLabel: "squall", objects.RunLabel: "run-1"}
	if diff := cmp.Diff(wantLabels, stamped.GetLabels()); diff != "" {
		t.Error(diff)
	}
	wantAnnotations := map[string]string{
		objects.ExperimentAnnotation: "outage", objects.OwnerAnnotation: "ann@laptop", objects.ExpiresAnnotation: "2026-01-02T03:04:05Z",
		objects.HostAnnotation: host, objects.CallersAnnotation: "shop",
	}
	if diff := cmp.Diff(wantAnnotations, stamped.GetAnnotations()); diff != "" {
		t.Error(diff)
	}
	for key := range wantAnnotations {
		if strings.Contains(key, "istio.io") {
			t.Errorf("a change of %s would push to proxies", key)
		}
	}
}

func TestSeveralCallerNamespaces(t *testing.T) {
	plan := decide(meshtest.Snapshot(t), meshtest.Experiment(t, "callers: [{namespace: shop}]", "callers: [{namespace: shop}, {namespace: prod, labels: {app: a}}, {namespace: prod, labels: {app: b}}]"))
	if len(plan.Decisions) != 2 || len(plan.Objects) != 2 || plan.Objects[0].GetName() == plan.Objects[1].GetName() {
		t.Fatalf("plan %+v", plan)
	}
	routes, _, err := unstructured.NestedSlice(plan.Objects[1].Object, "spec", "http")
	if err != nil || len(routes) != 1 || len(routes[0].(map[string]any)["match"].([]any)) != 2 {
		t.Errorf("routes %v: %v", routes, err)
	}
}

// Manifests have no ages, so which of two VirtualServices for one host is the older
// one is not known. It matters only if their routes differ.
func TestUnknownAges(t *testing.T) {
	const older, newer = "{hosts: [ratings], http: [{route: [{destination: {host: ratings}}], timeout: 1s}]}", "{hosts: [ratings.prod.svc.cluster.local], http: [{route: [{destination: {host: ratings.prod.svc.cluster.local}}], timeout: 9s}]}"
	entry := func(namespace, protocol string) string {
		return "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {namespace: " + namespace + ", name: maps}, spec: {hosts: [maps.example], ports: [{number: 80, name: p, protocol: " + protocol + "}]}}"
	}
	maps := []string{"{host: ratings, namespace: prod}", "{host: maps.example}"}
	for _, test := range []struct {
		name    string
		objects []string
		edits   []string
		want    string
	}{
		{"two VirtualServices", []string{meshtest.VirtualService("prod/a", older), meshtest.VirtualService("prod/b", newer)}, nil, "VirtualService prod/a and VirtualService prod/b are for the same host, the older one is effective"},
		{"two copies of one", []string{meshtest.VirtualService("prod/a", older), meshtest.VirtualService("prod/b", older)}, nil, ""},
		{"of different visibility", []string{meshtest.VirtualService("prod/a", older), meshtest.VirtualService("prod/b", strings.Replace(newer, "{", "{exportTo: [shop], ", 1))}, nil, ""},
		{"a wildcard and the host", []string{meshtest.VirtualService("prod/a", older), meshtest.VirtualService("prod/b", strings.Replace(newer, "[ratings.prod.svc.cluster.local]", "['*.prod.svc.cluster.local']", 1))}, nil, ""},
		{"one without routes for the callers", []string{meshtest.VirtualService("prod/a", older), meshtest.VirtualService("prod/b", strings.Replace(newer, "{route", "{match: [{sourceNamespace: other}], route", 1))}, nil, ""},
		{"one for a short name", []string{meshtest.VirtualService("prod/b", newer), meshtest.VirtualService("prod/c", strings.Replace(older, "[ratings]", "[ratings.prod]", 1))}, nil, "VirtualService prod/c routes calls to ratings.prod, another name of"},
		{"two ServiceEntries", []string{entry("prod", "HTTP"), entry("edge", "TCP")}, maps, "ServiceEntry edge/maps and ServiceEntry prod/maps are for the same host, the older one is effective"},
		{"two ServiceEntries, one of the callers' namespace", []string{entry("prod", "TCP"), entry("shop", "HTTP")}, maps, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := meshtest.Snapshot(t, test.objects...)
			for _, object := range slices.Concat(s.VirtualServices, s.ServiceEntries) {
				object.SetCreationTimestamp(metav1.Time{})
			}
			refusal, refused := decide(s, meshtest.Experiment(t, test.edits...)).Refusal()
			if refused != (test.want != "") || !strings.HasPrefix(refusal.Reason, test.want) {
				t.Errorf("refused %v: %+v", refused, refusal)
			}
		})
	}
}
