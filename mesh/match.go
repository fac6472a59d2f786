package mesh

import (
	"maps"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"

	"github.com/squall-chaos/squall/experiments"
)

// condition is an entry of an HTTPRoute's match, as JSON. Its fields are
// ANDed; an empty one takes every request.
type condition = map[string]any

// conditionsFor gives the requests that a fault disturbs among those of one
// namespace: the callers' labels, the file's matches and the port, ANDed. No
// condition at all means every request.
func conditionsFor(callers []experiments.Caller, matches []experiments.Match, port int, namespace string) ([]condition, error) {
	if len(matches) == 0 {
		matches = []experiments.Match{{}}
	}
	if needed := len(callers) * len(matches); needed > maxConditions {
		return nil, tooManyConditions(needed)
	}
	var all []condition
	for _, caller := range callers {
		if caller.Namespace != namespace {
			continue
		}
		for _, match := range matches {
			c := requestCondition(match)
			if len(caller.Labels) > 0 {
				c["sourceLabels"] = jsonMap(caller.Labels)
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

// The fields of a match that hold one string match, and those that hold one
// for each key.
var (
	textFields  = []string{"uri", "scheme", "method", "authority"} //nolint:gochecknoglobals // a constant list
	keyedFields = []string{"headers", "queryParams"}               //nolint:gochecknoglobals // a constant list
)

// requestCondition writes a file's match as Istio does.
func requestCondition(m experiments.Match) condition {
	c := condition{}
	for i, value := range []*experiments.StringMatch{m.URI, m.Scheme, m.Method, m.Authority} {
		if value != nil {
			c[textFields[i]] = stringMatch(*value)
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

func jsonMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for key, value := range m {
		out[key] = value
	}
	return out
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

// maxConditions bounds how many conditions one clone may need.
const maxConditions = 64

func tooManyConditions(needed int) error {
	return refuse(Inexpressible, "name fewer callers or matches", "the fault would need up to %d match conditions on one route; Squall stops at %d", needed, maxConditions)
}

// intersect gives conditions that take a request exactly when one of the
// route's matches and one of the fault's conditions do. None means that no
// request can meet both.
func intersect(matches []map[string]any, fault []condition, namespace string) ([]condition, error) {
	both, err := narrow(matches, fault, namespace)
	return simplify(both), err
}

// narrow is intersect without any attempt to leave out what is redundant.
func narrow(matches []map[string]any, fault []condition, namespace string) ([]condition, error) {
	if len(matches) == 0 {
		matches = []map[string]any{{}}
	}
	if needed := len(matches) * len(fault); needed > max(maxConditions, len(matches)) {
		return nil, tooManyConditions(needed)
	}
	var both []condition
	for _, m := range matches {
		for _, f := range fault {
			c, ok, err := conjoin(m, f, namespace)
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

// conjoin gives the condition that holds exactly when both do; ok is false
// when that is never. The fault's condition f is one of conditionsFor; the
// route's condition m may hold anything.
func conjoin(m map[string]any, f condition, namespace string) (c condition, ok bool, err error) {
	c = maps.Clone(m) // what is inside is replaced, never changed
	if gateways, bound := c["gateways"].([]any); bound {
		if !slices.Contains(gateways, any(meshGateway)) {
			return nil, false, nil
		}
		// istiod ignores the source conditions of a match that has gateways
		// (route.go, sourceMatchHTTP). The shadow is bound to the mesh anyway,
		// so dropping gateways, with the conditions that were ignored, changes
		// nothing, and lets the fault's own conditions count.
		delete(c, "gateways")
		delete(c, "sourceLabels")
		delete(c, "sourceNamespace")
	}
	if source, set := c["sourceNamespace"].(string); set && source != namespace {
		return nil, false, nil
	}
	if port, set := f["port"]; set {
		if own, has := asInt(c["port"]); has && own != port {
			return nil, false, nil
		}
		c["port"] = port
	}
	if labels := mapAt(f, "sourceLabels"); labels != nil {
		merged := maps.Clone(mapAt(c, "sourceLabels"))
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

// conjoinTexts narrows the fields of c that hold one string match by those of
// f.
func conjoinTexts(c, f condition) (ok bool, err error) {
	if err := conjoinCase(c, f); err != nil {
		return false, err
	}
	for _, field := range textFields {
		wanted := mapAt(f, field)
		if wanted == nil {
			continue
		}
		own := mapAt(c, field)
		if own == nil || field == "uri" && own["prefix"] == "/" {
			// Every path begins with a slash.
			c[field] = wanted
			continue
		}
		if field == "uri" && wanted["prefix"] == "/" {
			continue
		}
		if field == "uri" && f["ignoreUriCase"] == true {
			own, wanted = lowerCase(own), lowerCase(wanted)
		}
		joined, ok, err := conjoinStrings(own, wanted)
		if err != nil {
			err = conjoinPseudo(c, field, own, wanted)
			joined = own
			if own["prefix"] != nil {
				joined = wanted // the regex stays, the prefix moves
			}
			ok = err == nil
		}
		if err != nil {
			return false, refuse(Inexpressible, "match on something that the route does not match on", "%s: %s", field, err)
		}
		if !ok {
			return false, nil
		}
		c[field] = joined
	}
	return true, nil
}

// conjoinPseudo narrows c by a second pattern for a field that holds one
// already: HTTP/2's pseudo header says the same. One of the two is a regex. The
// path there has the query, which the uri has not.
func conjoinPseudo(c condition, field string, own, wanted map[string]any) error {
	second := wanted
	if own["prefix"] != nil {
		second = own
	}
	header := ":" + field
	if field == "uri" {
		header = ":path"
		if ignoresCase(c) {
			return refuse(Inexpressible, "", "a regex cannot stand beside a prefix without regard to case")
		}
		if expression, is := second["regex"].(string); is {
			whole, err := pathRegex(expression)
			if err != nil {
				return err
			}
			second = map[string]any{"regex": whole}
		}
	}
	headers := maps.Clone(mapAt(c, "headers"))
	if headers == nil {
		headers = map[string]any{}
	}
	if _, _, has := entryAt(headers, header, true); has {
		return refuse(Inexpressible, "", "one route condition cannot hold three patterns for the %s", field)
	}
	headers[header] = second
	c["headers"] = headers
	return nil
}

// longestRegex is the longest that Istio accepts
// (istio.io/istio/pkg/config/validation).
const longestRegex = 1024

// pathRegex gives a regex that matches a path with its query exactly when the
// given one matches the path alone: no part of it may match a question mark, and
// a query may follow.
func pathRegex(expression string) (string, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", refuse(Inexpressible, "", "the regex %q is not RE2", expression)
	}
	whole := "(?:" + withoutQuestionMark(parsed).String() + `)(?:\?(?s:.*))?`
	if len(whole) > longestRegex {
		return "", refuse(Inexpressible, "", "the two regexes together are too long for Istio")
	}
	return whole, nil
}

// withoutQuestionMark narrows a regex to the texts without a question mark.
func withoutQuestionMark(expression *syntax.Regexp) *syntax.Regexp {
	for i, part := range expression.Sub {
		expression.Sub[i] = withoutQuestionMark(part)
	}
	without := func(class []rune) *syntax.Regexp {
		var kept []rune
		for bounds := range slices.Chunk(class, 2) {
			low, high := bounds[0], bounds[1]
			if low > '?' || high < '?' {
				kept = append(kept, low, high)
				continue
			}
			if low < '?' {
				kept = append(kept, low, '?'-1)
			}
			if high > '?' {
				kept = append(kept, '?'+1, high)
			}
		}
		return &syntax.Regexp{Op: syntax.OpCharClass, Rune: kept}
	}
	switch expression.Op {
	case syntax.OpAnyChar:
		return without([]rune{0, unicode.MaxRune})
	case syntax.OpAnyCharNotNL:
		return without([]rune{0, '\n' - 1, '\n' + 1, unicode.MaxRune})
	case syntax.OpCharClass:
		return without(expression.Rune)
	case syntax.OpLiteral:
		if slices.Contains(expression.Rune, '?') {
			return &syntax.Regexp{Op: syntax.OpNoMatch}
		}
	default:
	}
	return expression
}

// conjoinCase decides whether the uri of both compares without regard to case.
// The field means nothing without a uri, and nothing for a regex.
func conjoinCase(c, f condition) error {
	own, wanted := mapAt(c, "uri"), mapAt(f, "uri")
	switch {
	case wanted == nil:
		return nil
	case own != nil && ignoresCase(c) != ignoresCase(f):
		return refuse(Inexpressible, "write the uri as the route does", "the route and the fault compare the uri with and without regard to case")
	}
	delete(c, "ignoreUriCase")
	if ignoresCase(f) {
		c["ignoreUriCase"] = true
	}
	return nil
}

func ignoresCase(c condition) bool {
	return c["ignoreUriCase"] == true && mapAt(c, "uri")["regex"] == nil
}

func lowerCase(m map[string]any) map[string]any {
	lower := maps.Clone(m)
	for _, kind := range []string{"exact", "prefix"} {
		if text, is := lower[kind].(string); is {
			lower[kind] = strings.ToLower(text)
		}
	}
	return lower
}

// conjoinKeyed narrows a field of c that holds a string match for each key by
// that of f.
func conjoinKeyed(c, f condition, field string, join func(a, b map[string]any) (map[string]any, bool, error)) (ok bool, err error) {
	wanted := mapAt(f, field)
	if wanted == nil {
		return true, nil
	}
	merged := maps.Clone(mapAt(c, field))
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
			return false, refuse(Inexpressible, "match on another one", "%s %s: %s", field, name, err)
		}
		if !ok {
			return false, nil
		}
		merged[key] = joined
	}
	c[field] = merged
	return true, nil
}

// conjoinAbsences gives the condition under which a header satisfies neither
// a nor b, as withoutHeaders states it. Istiod lets a missing header count as
// an empty one, except where only its presence is asked for.
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
		return nil, false, refuse(Inexpressible, "", "the two conditions together are too long for Istio")
	}
	return map[string]any{"regex": either}, true, nil
}

// asRegex writes a string match as a regex for the whole value.
func asRegex(m map[string]any) (string, error) {
	if exact, is := m["exact"].(string); is {
		return regexp.QuoteMeta(exact), nil
	}
	if prefix, is := m["prefix"].(string); is {
		return regexp.QuoteMeta(prefix) + "(?s:.*)", nil
	}
	if expression, is := m["regex"].(string); is {
		return "(?:" + expression + ")", nil
	}
	return "", refuse(Inexpressible, "", "the route in force has a string match of an unknown kind")
}

// entryAt finds the condition of a key. The names of headers compare without
// regard to case.
func entryAt(entries map[string]any, name string, foldCase bool) (key string, value map[string]any, has bool) {
	for key, value := range entries {
		if key == name || foldCase && strings.EqualFold(key, name) {
			m, _ := value.(map[string]any)
			return key, m, true
		}
	}
	return "", nil, false
}

// asInt reads a number of JSON or YAML.
func asInt(value any) (int64, bool) {
	switch n := value.(type) {
	case int64:
		return n, true
	case float64:
		return int64(n), true
	default:
		return 0, false
	}
}

// conjoinStrings gives the string match that holds exactly when both do; ok
// is false when that is never. Some pairs have no such match.
func conjoinStrings(a, b map[string]any) (joined map[string]any, ok bool, err error) {
	switch {
	case isPresence(a), reflect.DeepEqual(a, b):
		return b, true, nil
	case isPresence(b):
		return a, true, nil
	}
	if exact, is := a["exact"].(string); is {
		ok, err := matches(b, exact)
		return a, ok, err
	}
	if exact, is := b["exact"].(string); is {
		ok, err := matches(a, exact)
		return b, ok, err
	}
	p, isPrefix := a["prefix"].(string)
	q, areBoth := b["prefix"].(string)
	if isPrefix && areBoth {
		if strings.HasPrefix(p, q) {
			return a, true, nil
		}
		return b, strings.HasPrefix(q, p), nil
	}
	return nil, false, refuse(Inexpressible, "", "one route condition cannot hold a regex together with another pattern")
}

// isPresence reports whether a header match only asks that the header is
// there; istiod reads {} and the regex * so.
func isPresence(m map[string]any) bool {
	return len(m) == 0 || m["regex"] == "*"
}

// matches reports whether a value satisfies a string match. Envoy's regex
// takes the whole value.
func matches(m map[string]any, value string) (bool, error) {
	if exact, is := m["exact"].(string); is {
		return exact == value, nil
	}
	if prefix, is := m["prefix"].(string); is {
		return strings.HasPrefix(value, prefix), nil
	}
	if expression, is := m["regex"].(string); is {
		compiled, err := regexp.Compile("^(?:" + expression + ")$")
		if err != nil {
			return false, refuse(Inexpressible, "", "the route in force has the regex %q, which is not RE2", expression)
		}
		return compiled.MatchString(value), nil
	}
	return false, refuse(Inexpressible, "", "the route in force has a string match of an unknown kind")
}
