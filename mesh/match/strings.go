package match

import (
	"maps"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"

	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/refusal"
)

// conjoinTexts narrows the fields of c with one string match by the fields of f.
func conjoinTexts(c, f Condition) (ok bool, err error) {
	if err := conjoinCase(c, f); err != nil {
		return false, err
	}
	for _, field := range routing.TextFields {
		wanted := fields.Map(f, field)
		if wanted == nil {
			continue
		}
		own := fields.Map(c, field)
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
			return false, refusal.New(refusal.Inexpressible, "match on something that the route does not match on", "%s: %s", field, err)
		}
		if !ok {
			return false, nil
		}
		c[field] = joined
	}
	return true, nil
}

// conjoinPseudo narrows c by a second pattern for a field that already has one, by
// a condition on the pseudo header of HTTP/2 with the same value. One of the two
// patterns is a regex. Unlike the uri, the header :path includes the query.
func conjoinPseudo(c Condition, field string, own, wanted map[string]any) error {
	second := wanted
	if own["prefix"] != nil {
		second = own
	}
	header := ":" + field
	if field == "uri" {
		header = ":path"
		if ignoresCase(c) {
			return refusal.New(refusal.Inexpressible, "", "a regex and a prefix that ignores case cannot be combined")
		}
		if expression, is := second["regex"].(string); is {
			whole, err := pathRegex(expression)
			if err != nil {
				return err
			}
			second = map[string]any{"regex": whole}
		}
	}
	headers := maps.Clone(fields.Map(c, "headers"))
	if headers == nil {
		headers = map[string]any{}
	}
	if _, _, has := entryAt(headers, header, true); has {
		return refusal.New(refusal.Inexpressible, "", "one route condition cannot hold three patterns for the %s", field)
	}
	headers[header] = second
	c["headers"] = headers
	return nil
}

// longestRegex is the length of the longest regex that Istio accepts
// (istio.io/istio/pkg/config/validation).
const longestRegex = 1024

// pathRegex returns a regex that matches a path with its query exactly if the
// given one matches the path alone: no part of it matches a question mark, and a
// query may follow.
func pathRegex(expression string) (string, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", refusal.New(refusal.Inexpressible, "", "the regex %q is not RE2", expression)
	}
	whole := "(?:" + withoutQuestionMark(parsed).String() + `)(?:\?(?s:.*))?`
	if len(whole) > longestRegex {
		return "", refusal.New(refusal.Inexpressible, "", "the two regexes together are too long for Istio")
	}
	return whole, nil
}

// withoutQuestionMark narrows a regex to strings without a question mark.
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

// conjoinCase sets whether the uri of both compares without regard to case. The
// field has no effect without a uri, or on a regex.
func conjoinCase(c, f Condition) error {
	own, wanted := fields.Map(c, "uri"), fields.Map(f, "uri")
	switch {
	case wanted == nil:
		return nil
	case own != nil && ignoresCase(c) != ignoresCase(f):
		return refusal.New(refusal.Inexpressible, "write the uri as the route does", "the route and the fault compare the uri with and without regard to case")
	}
	delete(c, "ignoreUriCase")
	if ignoresCase(f) {
		c["ignoreUriCase"] = true
	}
	return nil
}

func ignoresCase(c Condition) bool {
	return c["ignoreUriCase"] == true && fields.Map(c, "uri")["regex"] == nil
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

// asRegex returns a string match as a regex for the whole value.
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
	return "", refusal.New(refusal.Inexpressible, "", "the effective route has a string match of an unknown kind")
}

// conjoinStrings returns the string match that holds exactly if both do; ok is
// false if they never both hold. Some pairs have no such match.
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
	return nil, false, refusal.New(refusal.Inexpressible, "", "one route condition cannot hold a regex together with another pattern")
}

// isPresence reports whether a header match only requires that the header exists,
// as istiod reads {} and the regex *.
func isPresence(m map[string]any) bool {
	return len(m) == 0 || m["regex"] == "*"
}

// matches reports whether a value satisfies a string match. Envoy matches a regex
// against the whole value.
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
			return false, refusal.New(refusal.Inexpressible, "", "the effective route has the regex %q, which is not RE2", expression)
		}
		return compiled.MatchString(value), nil
	}
	return false, refusal.New(refusal.Inexpressible, "", "the effective route has a string match of an unknown kind")
}
