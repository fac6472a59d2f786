package match

import (
	"flag"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/mesh/meshtest"
)

// request is what a route's match can see of a call in these tests.
type request struct {
	headers   map[string]string
	labels    map[string]string
	port      int64
	namespace string
	uri       string
	method    string
	query     map[string]string
}

// header returns a header, or HTTP/2's pseudo header for a part of the request.
func (r request) header(name string) (value string, there bool) {
	switch name {
	case ":path":
		path := r.uri
		for key, value := range r.query {
			path += "?" + key + "=" + value
		}
		return path, true
	case ":method":
		return r.method, true
	}
	value, there = r.headers[strings.ToLower(name)]
	return value, there
}

// takes evaluates a condition the slow and obvious way: as istiod does for the
// static part, and as Envoy does for the headers.
func takes(c map[string]any, r request) bool {
	gateways, bound := c["gateways"].([]any)
	if bound && !contains(gateways, "mesh") {
		return false
	}
	if !bound {
		for key, value := range fields.Map(c, "sourceLabels") {
			if r.labels[key] != value {
				return false
			}
		}
		if namespace, set := c["sourceNamespace"]; set && namespace != r.namespace {
			return false
		}
	}
	if port, set := c["port"]; set && port != r.port {
		return false
	}
	for name, m := range fields.Map(c, "headers") {
		value, there := r.header(name)
		if !there || !satisfies(m, value) {
			return false
		}
	}
	for name, m := range fields.Map(c, "withoutHeaders") {
		// istiod asks Envoy to treat a missing header as an empty one, except
		// where only its presence matters (route.go, TranslateRouteMatch).
		fields, _ := m.(map[string]any)
		value, there := r.headers[strings.ToLower(name)]
		if (there || !isPresence(fields)) && satisfies(m, value) {
			return false
		}
	}
	for name, m := range fields.Map(c, "queryParams") {
		if value, there := r.query[name]; !there || !satisfies(m, value) {
			return false
		}
	}
	if m := fields.Map(c, "uri"); m != nil {
		uri := r.uri
		if c["ignoreUriCase"] == true && m["regex"] == nil {
			uri, m = strings.ToLower(uri), lowerCase(m)
		}
		if !satisfies(m, uri) {
			return false
		}
	}
	m := fields.Map(c, "method")
	return m == nil || satisfies(m, r.method)
}

func satisfies(m any, value string) bool {
	fields, _ := m.(map[string]any)
	for kind, wanted := range fields {
		text := fmt.Sprint(wanted)
		switch kind {
		case "exact":
			return value == text
		case "prefix":
			return strings.HasPrefix(value, text)
		case "regex":
			return text == "*" || regexp.MustCompile("^(?:"+text+")$").MatchString(value)
		}
	}
	return true
}

func contains(list []any, wanted string) bool {
	for _, item := range list {
		if item == wanted {
			return true
		}
	}
	return false
}

func drawRequest(t *rapid.T) request {
	r := request{
		uri:    rapid.SampledFrom([]string{"/", "/a", "/A", "/ab", "/AB", "/aB", "/abc", "/b"}).Draw(t, "requestURI"),
		method: rapid.SampledFrom([]string{"GET", "PUT", "POST"}).Draw(t, "requestMethod"),
		query:  map[string]string{}, headers: map[string]string{}, labels: map[string]string{}, port: rapid.SampledFrom([]int64{80, 90}).Draw(t, "requestPort"), namespace: "shop",
	}
	for _, name := range meshtest.Headers {
		if rapid.Bool().Draw(t, "hasHeader") {
			r.headers[name] = rapid.SampledFrom(meshtest.Words).Draw(t, "header")
		}
	}
	for _, name := range meshtest.Headers {
		if rapid.Bool().Draw(t, "hasParam") {
			r.query[name] = rapid.SampledFrom(meshtest.Words).Draw(t, "param")
		}
	}
	for _, name := range meshtest.Labels {
		if rapid.Bool().Draw(t, "hasLabel") {
			r.labels[name] = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "requestLabel")
		}
	}
	return r
}

// The clone takes a request exactly when the route and the fault both would.
func intersectIsExact(t *rapid.T) {
	var matches, fault []map[string]any
	for range rapid.IntRange(0, 2).Draw(t, "matches") {
		matches = append(matches, meshtest.Condition(t, true))
	}
	for range rapid.IntRange(1, 2).Draw(t, "conditions") {
		fault = append(fault, meshtest.Condition(t, false))
	}
	both, err := Intersect(matches, fault, "shop")
	if err != nil {
		return // refused, which is always honest
	}
	for range 20 {
		r := drawRequest(t)
		byRoute := len(matches) == 0
		for _, m := range matches {
			byRoute = byRoute || takes(m, r)
		}
		byFault := false
		for _, f := range fault {
			byFault = byFault || takes(f, r)
		}
		byClone := false
		for _, c := range both {
			byClone = byClone || takes(c, r)
		}
		if byClone != (byRoute && byFault) {
			t.Fatalf("request %+v: route %v, fault %v, clone %v\nroute %v\nfault %v\nclone %v", r, byRoute, byFault, byClone, matches, fault, both)
		}
	}
}

func TestIntersectIsExact(t *testing.T) {
	// The default, 100, misses what takes three fields to show.
	if err := flag.Set("rapid.checks", "3000"); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, intersectIsExact)
}

func FuzzIntersect(f *testing.F) { f.Fuzz(rapid.MakeFuzz(intersectIsExact)) }

func TestIntersectLeavesItsInputAlone(t *testing.T) {
	match := map[string]any{"headers": map[string]any{"h1": map[string]any{"prefix": "a"}}, "sourceLabels": map[string]any{"l1": "x"}}
	fault := Condition{"headers": map[string]any{"h1": map[string]any{"exact": "ab"}, "h2": map[string]any{"exact": "b"}}, "sourceLabels": map[string]any{"l2": "y"}}
	matchBefore, faultBefore := fmt.Sprint(match), fmt.Sprint(fault)
	if _, err := Intersect([]map[string]any{maps.Clone(match)}, []Condition{fault}, "shop"); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(match) != matchBefore || fmt.Sprint(fault) != faultBefore {
		t.Errorf("changed to %v and %v", match, fault)
	}
}
