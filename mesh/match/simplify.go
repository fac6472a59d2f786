package match

import (
	"maps"
	"reflect"
	"slices"

	"github.com/squall-chaos/squall/istio/fields"
)

// Simplify removes each condition that is implied by another one, which matches
// every request that it matches.
func Simplify(conditions []Condition) []Condition {
	var kept []Condition
	for i, c := range conditions {
		implied := slices.ContainsFunc(conditions[:i], func(other Condition) bool { return includes(c, other) })
		for _, other := range conditions[i+1:] {
			implied = implied || includes(c, other) && !includes(other, c)
		}
		if !implied {
			kept = append(kept, c)
		}
	}
	return kept
}

// includes reports whether a condition has all fields of another one, so that it
// matches no request that the other does not match.
func includes(c, other Condition) bool {
	for field, value := range other {
		switch own := c[field]; field {
		case "sourceLabels", "headers", "withoutHeaders", "queryParams":
			wanted, _ := value.(map[string]any)
			has, _ := own.(map[string]any)
			for key, entry := range wanted {
				if !reflect.DeepEqual(has[key], entry) {
					return false
				}
			}
		default:
			if !reflect.DeepEqual(own, value) {
				return false
			}
		}
	}
	// The meaning of a uri depends on it.
	return c["uri"] == nil || other["uri"] == nil || c["ignoreUriCase"] == other["ignoreUriCase"]
}

// Same reports whether two lists have the same conditions in any order.
func Same(a, b []Condition) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(c Condition) bool {
		return !slices.ContainsFunc(b, func(other Condition) bool { return reflect.DeepEqual(c, other) })
	})
}

// TakesAll reports whether a route matches every request that a condition matches,
// so that no route after it gets any of them.
func TakesAll(route map[string]any, c Condition, namespace string) bool {
	matches := fields.Maps(route, "match")
	return len(matches) == 0 || slices.ContainsFunc(matches, func(m map[string]any) bool {
		m = withoutTruisms(m, namespace)
		for field := range m {
			if field != "gateways" && c[field] == nil {
				return false
			}
		}
		// If the conjunction cannot be expressed, the answer is not known.
		both, ok, err := Conjoin(m, c, namespace)
		return err == nil && ok && reflect.DeepEqual(withoutTruisms(both, namespace), withoutTruisms(c, namespace))
	})
}

// withoutTruisms returns a match without the conditions that every request of the
// callers satisfies. istiod takes the same uris for a catch-all
// (istio.io/istio/pilot/pkg/networking/core/route, IsCatchAllRoute).
func withoutTruisms(m map[string]any, namespace string) map[string]any {
	m = maps.Clone(m)
	for _, label := range []string{"name", "statPrefix"} {
		delete(m, label)
	}
	if uri := fields.Map(m, "uri"); m["uri"] != nil && (len(uri) == 0 || uri["prefix"] == "/" || uri["regex"] == ".*") {
		delete(m, "uri")
	}
	if m["uri"] == nil {
		delete(m, "ignoreUriCase")
	}
	if m["sourceNamespace"] == namespace && m["gateways"] == nil {
		delete(m, "sourceNamespace")
	}
	for field, value := range m {
		if all, is := value.(map[string]any); is && len(all) == 0 {
			delete(m, field)
		}
	}
	return m
}
