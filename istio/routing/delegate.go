package routing

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
)

// HTTPRoutes returns the HTTP routes of a VirtualService as istiod uses them: each
// route that delegates is replaced by the routes of its child, and left out if
// there is no child that it may delegate to (istio.io/istio/pilot/pkg/model,
// mergeVirtualServices). The hosts of a child are made fully qualified. It also
// returns the children, whose changes change the routes.
func HTTPRoutes(s config.Snapshot, root *unstructured.Unstructured) (routes []map[string]any, children []*unstructured.Unstructured) {
	for _, route := range fields.Maps(fields.Map(root.Object, "spec"), "http") {
		route = withoutEmpty(route)
		delegate := fields.Map(route, "delegate")
		if delegate == nil {
			routes = append(routes, route)
			continue
		}
		name, _ := delegate["name"].(string)
		namespace, _ := delegate["namespace"].(string)
		child := delegateOf(s, cmp.Or(namespace, root.GetNamespace()), name, root.GetNamespace())
		if child == nil {
			continue
		}
		children = append(children, child)
		spec := runtime.DeepCopyJSON(fields.Map(child.Object, "spec"))
		QualifyDestinations(spec, child.GetNamespace(), s.ClusterDomain)
		for _, own := range fields.Maps(spec, "http") {
			if merged, ok := mergeRoutes(route, withoutEmpty(own)); ok {
				routes = append(routes, merged)
			}
		}
	}
	return routes, children
}

// delegate finds the VirtualService without hosts that a root may delegate to.
func delegateOf(s config.Snapshot, namespace, name, rootNamespace string) *unstructured.Unstructured {
	for _, vs := range s.VirtualServices {
		if vs.GetNamespace() != namespace || vs.GetName() != name || len(fields.Strings(vs.Object, "spec", "hosts")) > 0 {
			continue
		}
		if s.VisibilityOf(vs, rootNamespace) == config.Hidden {
			return nil
		}
		return vs
	}
	return nil
}

// inherited are the fields that a child's route takes from the root's route if it
// does not have them (istio.io/istio/pilot/pkg/model, mergeHTTPRoute).
var inherited = []string{"rewrite", "directResponse", "timeout", "retries", "fault", "mirror", "mirrorPercent", "mirrorPercentage", "mirrors", "corsPolicy", "headers"} //nolint:gochecknoglobals // a constant list

// mergeRoutes returns a child's route within the root's route; ok is false if no
// request can match both.
func mergeRoutes(root, child map[string]any) (merged map[string]any, ok bool) {
	match, ok := mergeMatches(fields.Maps(root, "match"), fields.Maps(child, "match"))
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

// joinNames sets the name of a merged route or match: root-child, or the name of
// the one that has a name.
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

// mergeMatches returns the matches of a child within the matches of its root. ok is
// false if a match of the child is within no match of the root.
func mergeMatches(root, child []map[string]any) (merged []any, ok bool) {
	switch {
	case len(root) == 0:
		return fields.List(child), true
	case len(child) == 0:
		return fields.List(root), true
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

// mergeMatch returns a child's match with the fields that only the root's has.
func mergeMatch(outer, inner map[string]any) map[string]any {
	merged := runtime.DeepCopyJSON(inner)
	joinNames(merged, outer, inner)
	for _, field := range []string{"uri", "scheme", "method", "authority", "port", "sourceNamespace", "gateways", "statPrefix"} {
		if merged[field] == nil && outer[field] != nil {
			merged[field] = runtime.DeepCopyJSONValue(outer[field])
		}
	}
	for _, field := range []string{"headers", "withoutHeaders", "queryParams", "sourceLabels"} {
		if own := fields.Map(outer, field); own != nil {
			all := runtime.DeepCopyJSON(own)
			maps.Copy(all, fields.Map(inner, field))
			merged[field] = all
		}
	}
	return merged
}

// conflict reports whether a child's match is not within the root's. The
// asymmetries are istiod's (istio.io/istio/pilot/pkg/model, hasConflict).
func conflict(outer, inner map[string]any) bool {
	for _, field := range TextFields {
		if textsConflict(fields.Map(outer, field), fields.Map(inner, field)) {
			return true
		}
	}
	for _, field := range []string{"headers", "withoutHeaders", "queryParams"} {
		for key := range fields.Map(inner, field) {
			if textsConflict(fields.Map(fields.Map(outer, field), key), fields.Map(fields.Map(inner, field), key)) {
				return true
			}
		}
	}
	if (outer["ignoreUriCase"] == true) != (inner["ignoreUriCase"] == true) {
		return true
	}
	outerPort, _ := fields.Int(outer["port"])
	innerPort, _ := fields.Int(inner["port"])
	if outerPort > 0 && innerPort > 0 && outerPort != innerPort {
		return true
	}
	if namespace, _ := outer["sourceNamespace"].(string); namespace != "" && inner["sourceNamespace"] != namespace {
		return true
	}
	for key, value := range fields.Map(inner, "sourceLabels") {
		if own, has := fields.Map(outer, "sourceLabels")[key]; has && own != value {
			return true
		}
	}
	outerGateways, innerGateways := fields.Strings(outer, "gateways"), fields.Strings(inner, "gateways")
	if len(outerGateways) == 0 || len(innerGateways) == 0 {
		return false
	}
	return len(outerGateways) < len(innerGateways) || slices.ContainsFunc(innerGateways, func(g string) bool { return !slices.Contains(outerGateways, g) })
}

// textsConflict compares two string matches as istiod does: a regex conflicts
// with everything, and so does a root that only requires presence
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

// withoutEmpty returns a route without the empty fields of its matches, such as
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

// isEmpty reports whether a field of a match is empty.
func isEmpty(field string, value any) bool {
	switch field {
	case "gateways":
		list, is := value.([]any)
		return is && len(list) == 0
	case "sourceNamespace", "name", "statPrefix":
		return value == ""
	case "port":
		number, is := fields.Int(value)
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

// TextFields are the fields of a match that hold one string match.
var TextFields = []string{"uri", "scheme", "method", "authority"} //nolint:gochecknoglobals // a constant list

// QualifyDestinations completes the short host names of a spec that moves to
// another namespace, where they would mean other Services.
func QualifyDestinations(spec map[string]any, namespace, domain string) {
	qualifyHost := func(destination map[string]any) {
		if name, ok := destination["host"].(string); ok {
			destination["host"] = host.Qualify(name, namespace, domain)
		}
	}
	for _, protocol := range []string{"http", "tcp", "tls"} {
		for _, route := range fields.Maps(spec, protocol) {
			for _, weighted := range fields.Maps(route, "route") {
				qualifyHost(fields.Map(weighted, "destination"))
			}
			if protocol != "http" {
				continue
			}
			if mirror := fields.Map(route, "mirror"); mirror != nil {
				qualifyHost(mirror)
			}
			for _, mirror := range fields.Maps(route, "mirrors") {
				qualifyHost(fields.Map(mirror, "destination"))
			}
		}
	}
}
