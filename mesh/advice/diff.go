package advice

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// DiffRoutes returns how the routes of a host change while a fault is active, as text.
// The protocol is the one of the routes, as in a VirtualService: http, tcp or tls. In the
// text + is an added route, - a removed one, ~ a changed one, and = an unchanged
// one. The fields that differ follow; an added route is compared with its original.
// Routes are numbered from 1 in the order in which they are matched, removed ones by
// their old numbers.
func DiffRoutes(protocol string, before, during []map[string]any) string {
	var b strings.Builder
	steps := align(before, during)
	for i, s := range steps {
		switch {
		case s.before < 0:
			writeAdded(&b, protocol, s.during, during, originalOf(steps[i+1:], during[s.during], before))
		case s.during < 0:
			fmt.Fprintf(&b, "- %s\n", numbered(protocol, s.before, before[s.before]))
		case reflect.DeepEqual(before[s.before], during[s.during]):
			fmt.Fprintf(&b, "= %s\n", numbered(protocol, s.during, during[s.during]))
		default:
			fmt.Fprintf(&b, "~ %s\n", numbered(protocol, s.during, during[s.during]))
			writeFields(&b, before[s.before], during[s.during])
		}
	}
	return b.String()
}

// original is the route of which another one is a copy.
type original struct {
	route  map[string]any
	number int
}

// originalOf returns the route of which an added one is a narrowed copy: the next one
// that existed before, if they have more in common than not.
func originalOf(following []step, added map[string]any, before []map[string]any) *original {
	for _, s := range following {
		if s.before < 0 {
			continue
		}
		if s.during < 0 || distance(before[s.before], added) >= len(flatten(added)) {
			return nil
		}
		return &original{route: before[s.before], number: s.during}
	}
	return nil
}

func writeAdded(b *strings.Builder, protocol string, i int, during []map[string]any, of *original) {
	fmt.Fprintf(b, "+ %s", numbered(protocol, i, during[i]))
	base := map[string]any{}
	if of != nil {
		fmt.Fprintf(b, ", a copy of %s route %d but for", protocol, of.number+1)
		base = of.route
	}
	b.WriteString("\n")
	writeFields(b, base, during[i])
}

// writeFields lists the fields that differ.
func writeFields(b *strings.Builder, before, during map[string]any) {
	was, is := flatten(before), flatten(during)
	for _, path := range unionOfKeys(was, is) {
		old, had := was[path]
		now, has := is[path]
		switch {
		case !had:
			fmt.Fprintf(b, "    + %s: %s\n", path, now)
		case !has:
			fmt.Fprintf(b, "    - %s: %s\n", path, old)
		case old != now:
			fmt.Fprintf(b, "    ~ %s: %s -> %s\n", path, old, now)
		}
	}
}

func unionOfKeys(a, b map[string]string) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// step pairs a route before the change with one during it; -1 means that it has no
// counterpart.
type step struct{ before, during int }

// align pairs the routes of two lists in order. Unchanged routes pair with
// themselves; those between them are added, removed or changed.
func align(before, during []map[string]any) []step {
	was, is := textsOf(before), textsOf(during)
	var steps []step
	i, j := 0, 0
	for i < len(was) && j < len(is) {
		switch {
		case was[i] == is[j]:
			steps = append(steps, step{before: i, during: j})
			i, j = i+1, j+1
		case slices.Contains(is[j:], was[i]):
			steps = append(steps, step{before: -1, during: j})
			j++
		case slices.Contains(was[i:], is[j]):
			steps = append(steps, step{before: i, during: -1})
			i++
		// The next one is more similar: this one is an added copy.
		case j+1 < len(is) && distance(before[i], during[j+1]) < distance(before[i], during[j]):
			steps = append(steps, step{before: -1, during: j})
			j++
		default:
			steps = append(steps, step{before: i, during: j})
			i, j = i+1, j+1
		}
	}
	for ; i < len(was); i++ {
		steps = append(steps, step{before: i, during: -1})
	}
	for ; j < len(is); j++ {
		steps = append(steps, step{before: -1, during: j})
	}
	return steps
}

// textsOf returns each route as JSON.
func textsOf(routes []map[string]any) []string {
	texts := make([]string, len(routes))
	for i, route := range routes {
		texts[i] = inJSON(route)
	}
	return texts
}

// distance returns the number of fields in which two routes differ.
func distance(a, b map[string]any) int {
	was, is := flatten(a), flatten(b)
	differ := 0
	for _, path := range unionOfKeys(was, is) {
		old, had := was[path]
		now, has := is[path]
		if had != has || old != now {
			differ++
		}
	}
	return differ
}

// flatten returns each value of a route, as JSON, by its path: route[0].weight.
// Empty lists and maps are values, because {} is a condition too.
func flatten(route map[string]any) map[string]string {
	values := map[string]string{}
	flattenInto(values, "", route)
	return values
}

func flattenInto(values map[string]string, path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, field := range v {
			flattenInto(values, join(path, key), field)
		}
		if len(v) > 0 || path == "" {
			return
		}
	case []any:
		for i, item := range v {
			flattenInto(values, fmt.Sprintf("%s[%d]", path, i), item)
		}
		if len(v) > 0 {
			return
		}
	}
	values[path] = inJSON(value)
}

// join appends a key to a path. A key that looks like a path is quoted.
func join(path, key string) string {
	switch {
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`.[]"`, r) }) || key == "":
		return fmt.Sprintf("%s[%q]", path, key)
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

// inJSON returns a value as one line of JSON.
func inJSON(value any) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprint(value) // not a value of JSON or YAML
	}
	return strings.TrimSuffix(b.String(), "\n")
}
