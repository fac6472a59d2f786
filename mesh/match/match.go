// Package match is the algebra of the match conditions of Istio's HTTP routes:
// which requests a fault is for, and how a route's conditions are narrowed to
// exactly these.
package match

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/refusal"
)

// Condition is an entry of the match list of an HTTP route, as JSON. Its fields are
// ANDed; an empty one matches every request.
type Condition = map[string]any

// Conditions returns the conditions of the requests that a fault is for, among the
// requests of one namespace: the callers' labels, the file's matches and the port,
// ANDed. No condition means every request. The error is a *refusal.Error if there
// would be too many.
func Conditions(callers []experiments.Caller, matches []experiments.Match, port int, namespace string) ([]Condition, error) {
	if len(matches) == 0 {
		matches = []experiments.Match{{}}
	}
	if needed := len(callers) * len(matches); needed > Max {
		return nil, TooMany(needed)
	}
	var all []Condition
	for _, caller := range callers {
		if caller.Namespace != namespace {
			continue
		}
		for _, match := range matches {
			c := requestCondition(match)
			if len(caller.Labels) > 0 {
				c["sourceLabels"] = fields.FromStrings(caller.Labels)
			}
			if port != 0 {
				c["port"] = int64(port)
			}
			if len(c) == 0 {
				return nil, nil
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// keyedFields are the fields of a match that hold a string match for each key.
var keyedFields = []string{"headers", "queryParams"} //nolint:gochecknoglobals // a constant list

// requestCondition returns a file's match as a condition of Istio.
func requestCondition(m experiments.Match) Condition {
	c := Condition{}
	for i, value := range []*experiments.StringMatch{m.URI, m.Scheme, m.Method, m.Authority} {
		if value != nil {
			c[routing.TextFields[i]] = stringMatch(*value)
		}
	}
	for field, values := range map[string]map[string]experiments.StringMatch{"headers": m.Headers, "withoutHeaders": m.WithoutHeaders, "queryParams": m.QueryParams} {
		if len(values) == 0 {
			continue
		}
		all := map[string]any{}
		for name, value := range values {
			all[name] = stringMatch(value)
		}
		c[field] = all
	}
	if m.IgnoreURICase {
		c["ignoreUriCase"] = true
	}
	return c
}

func stringMatch(m experiments.StringMatch) map[string]any {
	switch {
	case m.Exact != nil:
		return map[string]any{"exact": *m.Exact}
	case m.Prefix != nil:
		return map[string]any{"prefix": *m.Prefix}
	case m.Regex != nil:
		return map[string]any{"regex": *m.Regex}
	default:
		return map[string]any{} // presence
	}
}

// Max is the largest number of conditions that one route may need.
const Max = 64

// TooMany returns the error of a fault that needs more than Max conditions.
func TooMany(needed int) error {
	return refusal.New(refusal.Inexpressible, "name fewer callers or matches", "the fault would need up to %d match conditions on one route; Squall stops at %d", needed, Max)
}

// Intersect returns conditions that match a request exactly if one of the route's
// matches and one of the fault's conditions do. No condition means that no request can
// match both. The error is a *refusal.Error if Istio has no such condition.
func Intersect(matches []map[string]any, fault []Condition, namespace string) ([]Condition, error) {
	both, err := Narrow(matches, fault, namespace)
	return Simplify(both), err
}

// Narrow is Intersect without any attempt to leave out what is redundant.
func Narrow(matches []map[string]any, fault []Condition, namespace string) ([]Condition, error) {
	if len(matches) == 0 {
		matches = []map[string]any{{}}
	}
	if needed := len(matches) * len(fault); needed > max(Max, len(matches)) {
		return nil, TooMany(needed)
	}
	var both []Condition
	for _, m := range matches {
		for _, f := range fault {
			c, ok, err := Conjoin(m, f, namespace)
			if err != nil {
				return nil, err
			}
			if ok {
				both = append(both, c)
			}
		}
	}
	return both, nil
}

// Conjoin returns the condition that holds exactly if both do; ok is false if they
// never both hold. The fault's condition f is one that Conditions returns; the route's
// condition m may have any fields.
func Conjoin(m map[string]any, f Condition, namespace string) (c Condition, ok bool, err error) {
	c = maps.Clone(m) // nested values are replaced, never changed
	if gateways, bound := c["gateways"].([]any); bound {
		if !slices.Contains(gateways, any(routing.MeshGateway)) {
			return nil, false, nil
		}
		// istiod ignores the source conditions of a match that has gateways
		// (route.go, sourceMatchHTTP). The new object applies to the mesh only, so
		// removing gateways and the ignored conditions changes nothing, and the
		// fault's source conditions count.
		delete(c, "gateways")
		delete(c, "sourceLabels")
		delete(c, "sourceNamespace")
	}
	if source, set := c["sourceNamespace"].(string); set && source != namespace {
		return nil, false, nil
	}
	if port, set := f["port"]; set {
		if own, has := fields.Int(c["port"]); has && own != port {
			return nil, false, nil
		}
		c["port"] = port
	}
	if labels := fields.Map(f, "sourceLabels"); labels != nil {
		merged := maps.Clone(fields.Map(c, "sourceLabels"))
		if merged == nil {
			merged = map[string]any{}
		}
		for key, value := range labels {
			if own, has := merged[key]; has && own != value {
				return nil, false, nil
			}
			merged[key] = value
		}
		c["sourceLabels"] = merged
	}
	if ok, err := conjoinTexts(c, f); !ok || err != nil {
		return nil, false, err
	}
	for _, field := range keyedFields {
		if ok, err := conjoinKeyed(c, f, field, conjoinStrings); !ok || err != nil {
			return nil, false, err
		}
	}
	if ok, err := conjoinKeyed(c, f, "withoutHeaders", conjoinAbsences); !ok || err != nil {
		return nil, false, err
	}
	return c, true, nil
}

// conjoinKeyed narrows a field of c that holds a string match for each key by the
// same field of f.
func conjoinKeyed(c, f Condition, field string, join func(a, b map[string]any) (map[string]any, bool, error)) (ok bool, err error) {
	wanted := fields.Map(f, field)
	if wanted == nil {
		return true, nil
	}
	merged := maps.Clone(fields.Map(c, field))
	if merged == nil {
		merged = map[string]any{}
	}
	for name, value := range wanted {
		m, _ := value.(map[string]any)
		key, own, has := entryAt(merged, name, field != "queryParams")
		if !has {
			merged[name] = value
			continue
		}
		joined, ok, err := join(own, m)
		if err != nil {
			return false, refusal.New(refusal.Inexpressible, "match on another one", "%s %s: %s", field, name, err)
		}
		if !ok {
			return false, nil
		}
		merged[key] = joined
	}
	c[field] = merged
	return true, nil
}

// conjoinAbsences returns the entry of withoutHeaders under which a header matches
// neither a nor b. istiod treats a missing header as an empty one, except where
// only its presence is required.
func conjoinAbsences(a, b map[string]any) (joined map[string]any, ok bool, err error) {
	if isPresence(b) {
		a, b = b, a
	}
	switch {
	case reflect.DeepEqual(a, b):
		return a, true, nil
	case isPresence(a):
		empty, err := matches(b, "")
		return a, !empty, err
	}
	one, err := asRegex(a)
	if err != nil {
		return nil, false, err
	}
	other, err := asRegex(b)
	if err != nil {
		return nil, false, err
	}
	either := one + "|" + other
	if len(either) > longestRegex {
		return nil, false, refusal.New(refusal.Inexpressible, "", "the two conditions together are too long for Istio")
	}
	return map[string]any{"regex": either}, true, nil
}

// entryAt returns the entry of a key. The names of headers compare without regard
// to case.
func entryAt(entries map[string]any, name string, foldCase bool) (key string, value map[string]any, has bool) {
	for key, value := range entries {
		if key == name || foldCase && strings.EqualFold(key, name) {
			m, _ := value.(map[string]any)
			return key, m, true
		}
	}
	return "", nil, false
}
