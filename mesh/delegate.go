package mesh

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// httpRoutes gives the http routes of a VirtualService as istiod uses them: each route that delegates is replaced by the routes of its child,
// and left out when there is none that it may have
// (istio.io/istio/pilot/pkg/model, mergeVirtualServices). The hosts of a child
// are made fully qualified. The children are given too: they are part of what
// is in force.
func (s Snapshot) httpRoutes(root *unstructured.Unstructured) (routes []map[string]any, children []*unstructured.Unstructured) {
	for _, route := range mapsAt(mapAt(root.Object, "spec"), "http") {
		route = withoutEmpty(route)
		delegate := mapAt(route, "delegate")
		if delegate == nil {
			routes = append(routes, route)
			continue
		}
		name, _ := delegate["name"].(string)
		namespace, _ := delegate["namespace"].(string)
		child := s.delegate(cmp.Or(namespace, root.GetNamespace()), name, root.GetNamespace())
		if child == nil {
			continue
		}
		children = append(children, child)
		spec := runtime.DeepCopyJSON(mapAt(child.Object, "spec"))
		qualifyDestinations(spec, child.GetNamespace(), s.ClusterDomain)
		for _, own := range mapsAt(spec, "http") {
			if merged, ok := mergeRoutes(route, withoutEmpty(own)); ok {
				routes = append(routes, merged)
			}
		}
	}
	return routes, children
}

// delegate finds the VirtualService without hosts that a root may delegate to.
func (s Snapshot) delegate(namespace, name, rootNamespace string) *unstructured.Unstructured {
	for _, vs := range s.VirtualServices {
		if vs.GetNamespace() != namespace || vs.GetName() != name || len(stringsAt(vs.Object, "spec", "hosts")) > 0 {
			continue
		}
		if s.bucketFor(vs, rootNamespace) == hidden {
			return nil
		}
		return vs
	}
	return nil
}

// inherited are the fields that a child's route takes from the root's when it
// has none of its own (istio.io/istio/pilot/pkg/model, mergeHTTPRoute).
var inherited = []string{"rewrite", "directResponse", "timeout", "retries", "fault", "mirror", "mirrorPercent", "mirrorPercentage", "mirrors", "corsPolicy", "headers"} //nolint:gochecknoglobals // a constant list

// mergeRoutes gives a child's route as the root's route lets it be; ok is false
// when the root's match leaves nothing of it.
func mergeRoutes(root, child map[string]any) (merged map[string]any, ok bool) {
	match, ok := mergeMatches(mapsAt(root, "match"), mapsAt(child, "match"))
	if !ok {
		return nil, false
	}
	merged = maps.Clone(child)
	delete(merged, "match")
	if len(match) > 0 {
		merged["match"] = match
	}
	joinNames(merged, root, child)
	for _, field := range inherited {
		if merged[field] == nil && root[field] != nil {
			merged[field] = runtime.DeepCopyJSONValue(root[field])
		}
	}
	return merged, true
}

// joinNames names what is merged of two: root-child, or as the one that has a
// name.
func joinNames(merged, root, child map[string]any) {
	outer, _ := root["name"].(string)
	inner, _ := child["name"].(string)
	switch {
	case outer == "":
	case inner == "":
		merged["name"] = outer
	default:
		merged["name"] = outer + "-" + inner
	}
}

// mergeMatches gives the matches of a child within those of its root. Each of
// the child's must be within one of the root's at least.
func mergeMatches(root, child []map[string]any) (merged []any, ok bool) {
	switch {
	case len(root) == 0:
		return mapsToAny(child), true
	case len(child) == 0:
		return mapsToAny(root), true
	}
	for _, inner := range child {
		found := false
		for _, outer := range root {
			if !conflict(outer, inner) {
				merged, found = append(merged, mergeMatch(outer, inner)), true
			}
		}
		if !found {
			return nil, false
		}
	}
	return merged, true
}

// mergeMatch gives a child's match with what only the root's says.
func mergeMatch(outer, inner map[string]any) map[string]any {
	merged := runtime.DeepCopyJSON(inner)
	joinNames(merged, outer, inner)
	for _, field := range []string{"uri", "scheme", "method", "authority", "port", "sourceNamespace", "gateways", "statPrefix"} {
		if merged[field] == nil && outer[field] != nil {
			merged[field] = runtime.DeepCopyJSONValue(outer[field])
		}
	}
	for _, field := range []string{"headers", "withoutHeaders", "queryParams", "sourceLabels"} {
		if own := mapAt(outer, field); own != nil {
			all := runtime.DeepCopyJSON(own)
			maps.Copy(all, mapAt(inner, field))
			merged[field] = all
		}
	}
	return merged
}

// conflict reports whether a child's match is not within the root's, with all
// of istiod's asymmetries (istio.io/istio/pilot/pkg/model, hasConflict).
func conflict(outer, inner map[string]any) bool {
	for _, field := range textFields {
		if textsConflict(mapAt(outer, field), mapAt(inner, field)) {
			return true
		}
	}
	for _, field := range []string{"headers", "withoutHeaders", "queryParams"} {
		for key := range mapAt(inner, field) {
			if textsConflict(mapAt(mapAt(outer, field), key), mapAt(mapAt(inner, field), key)) {
				return true
			}
		}
	}
	if (outer["ignoreUriCase"] == true) != (inner["ignoreUriCase"] == true) {
		return true
	}
	outerPort, _ := asInt(outer["port"])
	innerPort, _ := asInt(inner["port"])
	if outerPort > 0 && innerPort > 0 && outerPort != innerPort {
		return true
	}
	if namespace, _ := outer["sourceNamespace"].(string); namespace != "" && inner["sourceNamespace"] != namespace {
		return true
	}
	for key, value := range mapAt(inner, "sourceLabels") {
		if own, has := mapAt(outer, "sourceLabels")[key]; has && own != value {
			return true
		}
	}
	outerGateways, innerGateways := stringsAt(outer, "gateways"), stringsAt(inner, "gateways")
	if len(outerGateways) == 0 || len(innerGateways) == 0 {
		return false
	}
	return len(outerGateways) < len(innerGateways) || slices.ContainsFunc(innerGateways, func(g string) bool { return !slices.Contains(outerGateways, g) })
}

// textsConflict compares two string matches as istiod does: a regex conflicts
// with anything, and so does a root that asks for presence only
// (istio.io/istio/pilot/pkg/model, stringMatchConflict).
func textsConflict(outer, inner map[string]any) bool {
	if outer == nil || inner == nil {
		return false
	}
	text := func(m map[string]any, kind string) string { value, _ := m[kind].(string); return value }
	if exact := text(outer, "exact"); exact != "" && text(inner, "regex") == "" {
		return text(inner, "exact") != exact
	}
	if prefix := text(outer, "prefix"); prefix != "" && text(inner, "regex") == "" {
		own := text(inner, "prefix") + text(inner, "exact")
		return own == "" || !strings.HasPrefix(own, prefix)
	}
	return true
}

// withoutEmpty gives a route without the conditions that hold nothing, such as
// gateways: [] and port: 0. Istio reads them as omitted, because protobuf does.
func withoutEmpty(route map[string]any) map[string]any {
	matches, _ := route["match"].([]any)
	if !slices.ContainsFunc(matches, func(m any) bool { c, _ := m.(map[string]any); return hasEmpty(c) }) {
		return route
	}
	route = maps.Clone(route)
	cleaned := make([]any, len(matches))
	for i, m := range matches {
		cleaned[i] = m
		if c, is := m.(map[string]any); is {
			c = maps.Clone(c)
			maps.DeleteFunc(c, isEmpty)
			cleaned[i] = c
		}
	}
	route["match"] = cleaned
	return route
}

func hasEmpty(c map[string]any) bool {
	for field, value := range c {
		if isEmpty(field, value) {
			return true
		}
	}
	return false
}

// isEmpty reports whether a field of a match holds nothing.
func isEmpty(field string, value any) bool {
	switch field {
	case "gateways":
		list, is := value.([]any)
		return is && len(list) == 0
	case "sourceNamespace", "name", "statPrefix":
		return value == ""
	case "port":
		number, is := asInt(value)
		return is && number == 0
	case "sourceLabels", "headers", "withoutHeaders", "queryParams":
		all, is := value.(map[string]any)
		return is && len(all) == 0
	case "ignoreUriCase":
		return value == false
	default:
		return value == nil
	}
}
