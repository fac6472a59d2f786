package envoy_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The callers and the match of most tests of this file.
const (
	others    = "[{namespace: shop, labels: {app: other}}]"
	isJason   = "[{headers: {end-user: {exact: jason}}}]"
	jason     = "end-user=jason"
	jasonLine = "end-user: jason"
)

// Requests that are not selected are mirrored as before, and an aborted one,
// which does not get to the router, is not.
func TestMirror(t *testing.T) {
	t.Parallel()
	address, target := service(t, "mirror", "{app: details}")
	service(t, "mirrored", "{app: details}")
	routed(t, "mirror", "mirrors: [{destination: {host: mirrored}}]")
	mirrored := func() int {
		return counterOf(t, other, `cluster\.outbound\|9080\|\|mirrored\.prod\.svc\.cluster\.local;?\.upstream_rq_total`)
	}
	reaches := func(want int) {
		t.Helper()
		eventually(t, func() error {
			if got := mirrored(); got != want {
				return fmt.Errorf("%d requests were mirrored instead of %d", got, want)
			}
			return nil
		})
	}
	begun := mirrored()
	want(t, "before", call(t, other, address), "200")
	reaches(begun + 20)
	e := experiment{target: target, callers: others, match: isJason}
	planned(t, e).warns(t, "mirrors requests, but not those that the fault hits")
	s := start(t, e)
	s.hits(other, address, "555", "--header", jason)
	want(t, "the selected requests", call(t, other, address, "--header", jason), "555")
	want(t, "other requests", call(t, other, address), "200")
	reached := mirrored()
	want(t, "the selected requests", call(t, other, address, "--header", jason), "555")
	want(t, "other requests", call(t, other, address), "200")
	reaches(reached + 20)
	s.ends()
	isClean(t, other, address, "--header", jason)

	// Without an endpoint there is nothing to mirror either.
	e.faults = "[{blackhole: {mode: reject}}]"
	planned(t, e).warns(t, "mirrors requests, but not those that the fault hits")
	s = start(t, e)
	s.hits(other, address, "503", "--header", jason)
	reached = mirrored()
	want(t, "rejected requests", call(t, other, address, "--header", jason), "503")
	want(t, "other requests", call(t, other, address), "200")
	reaches(reached + 20)
	s.ends()
	isClean(t, other, address, "--header", jason)

	// A request that waits for its connection is mirrored.
	e.faults = "[{blackhole: {mode: drop}}]"
	dropped := []string{"--header", jason, "--timeout", "700ms"}
	s = start(t, e)
	s.hits(other, address, "TIMEOUT", dropped...)
	reached = mirrored()
	want(t, "dropped requests", call(t, other, address, dropped...), "TIMEOUT")
	reaches(reached + 20)
	s.ends()
	isClean(t, other, address, "--header", jason)
}

// A delayed request is rewritten as before.
func TestRewrite(t *testing.T) {
	t.Parallel()
	address, target := service(t, "rewrite", "{app: details}")
	routed(t, "rewrite", "match: [{uri: {prefix: /old}}]\nrewrite: {uri: /new}")
	path := func(what string, args ...string) fetched {
		t.Helper()
		got := curl(t, other, append(args, "http://"+address+"/old/page")...)
		if !strings.Contains(got.body, `"path":"/new/page"`) {
			t.Errorf("%s: %+v", what, got)
		}
		return got
	}
	path("before")
	s := start(t, experiment{target: target, callers: others, match: isJason, faults: "[{delay: {fixedDelay: 2s}, percentage: 100}]"})
	eventually(t, func() error {
		if got := path("the selected requests", "-H", jasonLine); got.seconds < 2 {
			return fmt.Errorf("not delayed: %+v", got)
		}
		return nil
	})
	if got := path("other requests"); got.seconds >= 2 {
		t.Errorf("other requests are delayed: %+v", got)
	}
	s.ends()
	isClean(t, other, address, "--path", "/old/page")
	path("after")
}

// Faults come before CORS: a preflight can be hit, and the answer to an aborted
// request does not say which origin may read it. A match by method spares
// preflights, whose answers stay the same.
func TestCORS(t *testing.T) {
	t.Parallel()
	address, target := service(t, "cors", "{app: details}")
	routed(t, "cors", "corsPolicy: {allowOrigins: [{exact: https://shop.example.com}], allowMethods: [GET, POST], allowHeaders: [x-token], maxAge: 24h}")
	origin := []string{"-H", "Origin: https://shop.example.com", "http://" + address + "/details/0"}
	preflight := func() fetched {
		t.Helper()
		return curl(t, other, append([]string{"-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST"}, origin...)...)
	}
	before, read := preflight(), curl(t, other, origin...)
	if before.code != "200" || before.headers["access-control-allow-methods"] != "GET,POST" || read.headers["access-control-allow-origin"] != "https://shop.example.com" {
		t.Fatalf("CORS is not configured: %+v, %+v", before, read)
	}
	unchanged := func(when string) {
		t.Helper()
		got := preflight()
		if diff := cmp.Diff(cors(before), cors(got)); got.code != "200" || diff != "" {
			t.Errorf("%s: a preflight is answered with %s: %s", when, got.code, diff)
		}
	}
	s := start(t, experiment{target: target, callers: others, match: "[{method: {exact: GET}}]"})
	s.hits(other, address, "555")
	unchanged("while other methods are aborted")
	if aborted := curl(t, other, origin...); aborted.code != "555" || len(cors(aborted)) > 0 {
		t.Errorf("an aborted request: %+v", aborted)
	}
	s.ends()
	isClean(t, other, address)
	unchanged("after the run")

	all := experiment{target: target, callers: others}
	planned(t, all).warns(t, "has a corsPolicy, which does not apply to aborted requests")
	s = start(t, all)
	s.hits(other, address, "555")
	if got := preflight(); got.code != "555" {
		t.Errorf("a preflight that is hit: %+v", got)
	}
	s.ends()
	isClean(t, other, address)
	unchanged("after the second run")
}

// A blackhole is behind the filter of CORS, which answers preflights. They are counted
// under the temporary host, and are not hit.
func TestPreflightsOfABlackhole(t *testing.T) {
	t.Parallel()
	address, target := service(t, "preflights", "{app: details}")
	routed(t, "preflights", "corsPolicy: {allowOrigins: [{exact: https://shop.example.com}], allowMethods: [GET, POST]}")
	s := start(t, experiment{target: target, callers: others, faults: "[{blackhole: {mode: reject}}]", duration: "15s", more: "effect: {minRequests: 1}\n  recovery: {within: 60s}"})
	diverted := func() (float64, error) {
		return query(`sum(istio_requests_total{reporter="source",source_workload="other",destination_service=~"squall-.*\\.preflights\\..*",response_code="200"})`)
	}
	for running := true; running; {
		select {
		case <-s.done:
			running = false
		default:
			if got := curl(t, other, "-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST", "-H", "Origin: https://shop.example.com", "http://"+address+"/"); got.code != "200" {
				t.Errorf("a preflight is answered with %s", got.code)
			}
		}
	}
	s.exits(3)
	if out := s.stdout.String(); !strings.Contains(out, "hit no request") {
		t.Errorf("stdout %q", out)
	}
	if count, err := diverted(); err != nil || count == 0 {
		t.Errorf("%g preflights were diverted: %v", count, err)
	}
	isClean(t, other, address)
}

// cors returns the headers that a browser reads.
func cors(answer fetched) map[string]string {
	found := maps.Clone(answer.headers)
	maps.DeleteFunc(found, func(key, _ string) bool { return !strings.HasPrefix(key, "access-control-") })
	return found
}

// A fault applies to every spelling of the host that leads to it.
func TestSpellingsOfTheHost(t *testing.T) {
	t.Parallel()
	const neighbour = "prod/stock-v1"
	address, target := service(t, "hosts", "{app: details}")
	isClean(t, neighbour, "hosts:9080")
	s := start(t, experiment{target: target, callers: "[{namespace: shop, labels: {app: other}}, {namespace: prod, labels: {app: stock}}]"})
	s.hits(other, address, "555")
	s.hits(neighbour, address, "555")
	for from, spellings := range map[string][]string{
		other:     {"hosts.prod", "hosts.prod:9080", "hosts.prod.svc", "hosts.prod.svc.cluster.local", "HOSTS.prod.svc.cluster.local:9080"},
		neighbour: {"hosts", "hosts:9080", "hosts.prod", "hosts.prod.svc.cluster.local"},
	} {
		for _, spelling := range spellings {
			want(t, from+" calls "+spelling, call(t, from, address, "--header", "host="+spelling, "-n", "5"), "555")
		}
	}
	s.ends()
	isClean(t, other, address)
	isClean(t, neighbour, "hosts:9080")
}

// A call to the address of a pod is not a call to the service, unless it names
// the service.
func TestPodAddresses(t *testing.T) {
	t.Parallel()
	address, target := serviceIn(t, "shop", "direct", "selector: {app: reviews, version: v3}")
	pods := mesh.Kube.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace("shop")
	list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "app=reviews,version=v3"})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("pods of reviews v3: %v: %v", list, err)
	}
	ip, _, _ := unstructured.NestedString(list.Items[0].Object, "status", "podIP")
	want(t, "before", call(t, other, ip+":9080"), "200")
	s := start(t, experiment{target: target, callers: others})
	s.hits(other, address, "555")
	want(t, "calls to the pod", call(t, other, ip+":9080"), "200")
	want(t, "calls to the pod by the service's name", call(t, other, ip+":9080", "--header", "host="+address), "555")
	want(t, "calls to the pod by a name that the mesh does not know", call(t, other, ip+":9080", "--header", "host=unknown.example.com"), "200")
	s.ends()
	isClean(t, other, address)
	want(t, "calls to the pod", call(t, other, ip+":9080"), "200")
}

// A headless Service has no address, but its routes are a service's.
func TestHeadless(t *testing.T) {
	t.Parallel()
	address, target := serviceIn(t, "prod", "headless", "clusterIP: None, selector: {app: details}")
	for faults, code := range map[string]string{"[{abort: {httpStatus: 555}, percentage: 100}]": "555", "[{blackhole: {mode: reject}}]": "503"} {
		s := start(t, experiment{target: target, callers: others, faults: faults})
		s.hits(other, address, code)
		want(t, faults, call(t, other, address), code)
		want(t, "other callers", call(t, productpage, address), "200")
		s.ends()
		isClean(t, other, address)
	}
}

// The share of a subset is hit, and the other subsets keep theirs.
func TestSubset(t *testing.T) {
	t.Parallel()
	const calls = 300
	address, _ := serviceIn(t, "shop", "versions", "selector: {app: reviews}")
	apply(t, `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: versions, namespace: shop}
spec:
  host: versions.shop.svc.cluster.local
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: versions, namespace: shop}
spec:
  hosts: [versions]
  http:
  - route:
    - {destination: {host: versions, subset: v1}, weight: 40}
    - {destination: {host: versions, subset: v2}, weight: 40}
    - {destination: {host: versions, subset: v3}, weight: 20}
`)
	answers := func() map[string]int {
		t.Helper()
		script := fmt.Sprintf(`for i in $(seq %d); do curl -s -m 20 -w ' code %%{http_code}\n' http://%s/; done`, calls, address)
		out, err := mesh.Exec(t.Context(), other, "bash", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]int{}
		for _, answer := range []string{`"version":"v1"`, `"version":"v2"`, `"version":"v3"`, "code 503", "code 200"} {
			found[answer] = strings.Count(out, answer)
		}
		return found
	}
	eventually(t, func() error {
		if got := answers(); got[`"version":"v2"`] == 0 || got["code 200"] != calls {
			return fmt.Errorf("before: %v", got)
		}
		return nil
	})
	s := start(t, experiment{target: "{host: versions.shop.svc.cluster.local, subset: v2}", callers: others, faults: "[{blackhole: {mode: reject}}]"})
	eventually(t, func() error {
		if call(t, other, address).Codes["503"] == 0 {
			return fmt.Errorf("no request is answered with 503")
		}
		return nil
	})
	got := answers()
	t.Logf("while the subset is gone: %v", got)
	// 120 are expected, with a deviation of 8.5.
	if got[`"version":"v2"`] != 0 || got["code 503"] < 80 || got["code 503"] > 160 || got[`"version":"v1"`] == 0 || got[`"version":"v3"`] == 0 || got["code 503"]+got["code 200"] != calls {
		t.Errorf("while the subset is gone: %v", got)
	}
	s.ends()
	isClean(t, other, address)
}
