package meshtest

import (
	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/istio/fields"
)

// The values and names that are drawn.
var (
	Words   = []string{"", "a", "ab", "abc", "b", "ba"} //nolint:gochecknoglobals // a constant list
	Headers = []string{"h1", "h2"}                      //nolint:gochecknoglobals // a constant list
	Labels  = []string{"l1", "l2"}                      //nolint:gochecknoglobals // a constant list
)

func drawStringMatch(t *rapid.T) map[string]any {
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		return map[string]any{"exact": rapid.SampledFrom(Words).Draw(t, "exact")}
	case 1:
		return map[string]any{"prefix": rapid.SampledFrom(Words[1:]).Draw(t, "prefix")}
	case 2:
		return map[string]any{"regex": rapid.SampledFrom([]string{"a.*", "b?a", "*", "(a|b)+"}).Draw(t, "regex")}
	default:
		return map[string]any{}
	}
}

func drawHeaders(t *rapid.T, allowPresence bool) map[string]any {
	headers := map[string]any{}
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(Headers), rapid.ID[string]).Draw(t, "headers") {
		m := drawStringMatch(t)
		if len(m) == 0 && !allowPresence {
			m = map[string]any{"exact": "a"}
		}
		headers[name] = m
	}
	return headers
}

func drawLabels(t *rapid.T) map[string]any {
	drawn := map[string]any{}
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(Labels), rapid.ID[string]).Draw(t, "labels") {
		drawn[name] = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "label")
	}
	return drawn
}

// Condition draws the match of a route, or of a fault, which has no
// gateways and no namespace.
func Condition(t *rapid.T, ofRoute bool) map[string]any {
	c := map[string]any{}
	if headers := drawHeaders(t, ofRoute); len(headers) > 0 {
		c["headers"] = headers
	}
	if l := drawLabels(t); len(l) > 0 {
		c["sourceLabels"] = l
	}
	if without := drawHeaders(t, true); len(without) > 0 && rapid.Bool().Draw(t, "hasWithout") {
		c["withoutHeaders"] = without
	}
	if query := drawHeaders(t, false); len(query) > 0 && rapid.Bool().Draw(t, "hasQuery") {
		c["queryParams"] = query
	}
	if rapid.Bool().Draw(t, "hasURI") {
		c["uri"] = rapid.SampledFrom([]map[string]any{{"prefix": "/"}, {"prefix": "/a"}, {"prefix": "/A"}, {"exact": "/ab"}, {"exact": "/AB"}, {"regex": "/a.*"}, {"regex": "/.*b"}}).Draw(t, "uri")
	}
	// Istio accepts it on any match, though it has no effect without a uri or on a
	// regex, where Load refuses it.
	if m := fields.Map(c, "uri"); (ofRoute || m != nil && m["regex"] == nil) && rapid.Bool().Draw(t, "ignoreCase") {
		c["ignoreUriCase"] = true
	}
	if rapid.Bool().Draw(t, "hasMethod") {
		c["method"] = rapid.SampledFrom([]map[string]any{{"exact": "GET"}, {"prefix": "P"}, {"regex": "GET|PUT"}}).Draw(t, "method")
	}
	if rapid.Bool().Draw(t, "hasPort") {
		c["port"] = rapid.SampledFrom([]int64{80, 90}).Draw(t, "port")
	}
	if ofRoute && rapid.Bool().Draw(t, "hasNamespace") {
		c["sourceNamespace"] = rapid.SampledFrom([]string{"shop", "prod"}).Draw(t, "namespace")
	}
	if ofRoute && rapid.Bool().Draw(t, "hasGateways") {
		c["gateways"] = rapid.SampledFrom([][]any{{"mesh"}, {"ingress"}, {"mesh", "ingress"}}).Draw(t, "gateways")
	}
	return c
}
