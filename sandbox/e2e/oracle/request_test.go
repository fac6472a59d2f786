package oracle_test

import (
	"hash/fnv"
	"iter"
	"maps"
	"math/rand/v2"
	"regexp/syntax"
	"slices"
	"strings"
)

// requestsPerPort is how many requests are drawn for each identity and port.
const requestsPerPort = 80

// satisfied evaluates a condition of an experiment on a request, independently of any
// proxy.
func satisfied(condition m, r request) bool {
	for field, wanted := range condition {
		switch field {
		case "uri":
			uri, path := mapOf(wanted), r.path
			if condition["ignoreUriCase"] == true {
				uri, path = lowered(uri), strings.ToLower(path)
			}
			if !meets(uri, path) {
				return false
			}
		case "method", "authority", "scheme":
			if !meets(mapOf(wanted), r.headers[":"+field]) {
				return false
			}
		case "headers", "withoutHeaders":
			for name, value := range mapOf(wanted) {
				got, there := r.headers[name]
				if (there && meets(mapOf(value), got)) != (field == "headers") {
					return false
				}
			}
		case "queryParams":
			for name, value := range mapOf(wanted) {
				if got, there := r.query[name]; !there || !meets(mapOf(value), got) {
					return false
				}
			}
		}
	}
	return true
}

func lowered(uri m) m {
	out := m{}
	for kind, value := range uri {
		out[kind] = strings.ToLower(text(value))
	}
	return out
}

// meets evaluates one of exact, prefix and regex; none asks for presence.
func meets(wanted m, value string) bool {
	for kind, pattern := range wanted {
		switch kind {
		case "exact":
			return value == text(pattern)
		case "prefix":
			return strings.HasPrefix(value, text(pattern))
		case "regex":
			return wholly(text(pattern), value)
		}
	}
	return true
}

// faulted reports whether the experiment means a request on a port.
func (e experiment) faulted(r request, port int64) bool {
	if e.port != 0 && e.port != port {
		return false
	}
	return len(e.match) == 0 || slices.ContainsFunc(e.match, func(condition m) bool { return satisfied(condition, r) })
}

// requests draws requests near the conditions of a scenario: its
// VirtualServices' and its experiment's.
func (s scenario) requests() []request {
	d := drawer{rand: rand.New(rand.NewPCG(seedOf(s.name), 0)), host: s.experiment.host}
	for _, o := range s.objects() {
		if o.GetKind() != "VirtualService" {
			continue
		}
		for _, route := range items(mapOf(o.Object["spec"])["http"]) {
			d.conditions = append(d.conditions, items(route["match"])...)
		}
	}
	d.conditions = append(d.conditions, s.experiment.match...)
	var all []request
	for range requestsPerPort {
		all = append(all, d.draw(s.experiment.match))
	}
	return all
}

func seedOf(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// drawer draws requests.
type drawer struct {
	rand       *rand.Rand
	host       string
	conditions []m
}

// draw returns a request that is likely to meet one of the experiment's conditions, or
// one of the routes' conditions, or both.
func (d *drawer) draw(match []m) request {
	r := request{
		path:    "/" + oneOf(d.rand, "", "a", "zzz", "a/b"),
		headers: map[string]string{":method": oneOf(d.rand, "GET", "POST", "PUT"), ":authority": oneOf(d.rand, d.host, d.host+":9080"), ":scheme": "http"},
		query:   map[string]string{},
	}
	for range d.rand.IntN(3) {
		d.approach(&r, d.conditions)
	}
	if d.rand.IntN(2) == 0 {
		d.approach(&r, match)
	}
	if d.rand.IntN(3) == 0 {
		d.approach(&r, d.conditions)
	}
	return r
}

// approach changes a request so that it meets most of a condition.
func (d *drawer) approach(r *request, conditions []m) {
	if len(conditions) == 0 {
		return
	}
	condition := conditions[d.rand.IntN(len(conditions))]
	for field, wanted := range sorted(condition) {
		if d.rand.IntN(8) == 0 {
			continue
		}
		switch field {
		case "uri":
			r.path = d.value(mapOf(wanted))
			if d.rand.IntN(4) == 0 {
				r.path = strings.ToUpper(r.path)
			}
			if !strings.HasPrefix(r.path, "/") {
				r.path = "/" + r.path
			}
		case "method", "authority", "scheme":
			r.headers[":"+field] = d.value(mapOf(wanted))
		case "headers":
			for name, value := range sorted(mapOf(wanted)) {
				r.headers[strings.ToLower(name)] = d.value(mapOf(value))
			}
		case "withoutHeaders":
			for name, value := range sorted(mapOf(wanted)) {
				if delete(r.headers, strings.ToLower(name)); d.rand.IntN(2) == 0 {
					r.headers[strings.ToLower(name)] = d.value(mapOf(value))
				}
			}
		case "queryParams":
			for name, value := range sorted(mapOf(wanted)) {
				r.query[name] = d.value(mapOf(value))
			}
		}
	}
}

// value returns a text that meets a string match, or nearly does.
func (d *drawer) value(wanted m) string {
	near := oneOf(d.rand, "", "", "", "x", "/b")
	for kind, pattern := range wanted {
		if kind == "regex" && pattern != "*" {
			parsed, err := syntax.Parse(text(pattern), syntax.Perl)
			if err != nil {
				return near
			}
			return d.sample(parsed.Simplify())
		}
		return text(pattern) + near
	}
	return "any" + near
}

// sample returns a text that a regex matches.
func (d *drawer) sample(re *syntax.Regexp) string {
	var out strings.Builder
	switch re.Op {
	case syntax.OpLiteral:
		out.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if len(re.Rune) > 0 {
			out.WriteRune(re.Rune[0])
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		out.WriteString(oneOf(d.rand, "a", "b", "/", "1"))
	case syntax.OpAlternate:
		return d.sample(re.Sub[d.rand.IntN(len(re.Sub))])
	case syntax.OpStar, syntax.OpQuest:
		if d.rand.IntN(2) == 0 {
			return d.sample(re.Sub[0])
		}
	default:
		for _, sub := range re.Sub {
			out.WriteString(d.sample(sub))
		}
	}
	return out.String()
}

func oneOf[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// sorted walks a map in a fixed order, so that the draws can be repeated.
func sorted(values m) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if !yield(key, values[key]) {
				return
			}
		}
	}
}
