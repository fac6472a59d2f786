package experiments

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"gopkg.in/yaml.v3"
)

// Bounds on what one file may make the loader do. An alias is expanded where
// it is used, so a small file can describe a huge tree.
const (
	maxFileSize  = 1 << 20
	maxDocuments = 1000
	maxDepth     = 32
	maxNodes     = 100_000
	// maxProblems is as many as anybody reads at once.
	maxProblems = 200
)

// loader turns the YAML nodes of one file into values. It goes on past
// problems, so that an author sees all of them at once.
type loader struct {
	file     string
	lines    []string
	problems Problems
	// positions remembers where each path of the current document stands, so
	// that validation can point at it.
	positions map[string]*yaml.Node
	// names holds the line on which each experiment's name stands first.
	names     map[string]int
	nodes     int
	exhausted bool
}

// nodeDecoder is a type that reads itself from a node and reports problems to
// the loader.
type nodeDecoder interface {
	decodeNode(l *loader, node *yaml.Node, path string)
}

// problem reports something at path, at the position of the nearest part of
// the path that the document holds.
func (l *loader) problem(path, message, remedy string) {
	p := Problem{File: l.file, Path: path, Message: message, Remedy: remedy}
	for at := path; ; at = parent(at) {
		if node, ok := l.positions[at]; ok {
			p.Line, p.Column = node.Line, node.Column
			break
		}
		if at == "" {
			break
		}
	}
	l.add(p)
}

// problemAt reports something at a node that has no path of its own.
func (l *loader) problemAt(node *yaml.Node, path, message, remedy string) {
	l.add(Problem{File: l.file, Line: node.Line, Column: node.Column, Path: path, Message: message, Remedy: remedy})
}

// add keeps a problem unless it is known, or there are too many.
func (l *loader) add(p Problem) {
	switch {
	case slices.Contains(l.problems, p) || len(l.problems) > maxProblems:
	case len(l.problems) == maxProblems:
		l.exhausted = true
		l.problems = append(l.problems, Problem{File: l.file, Line: p.Line, Column: p.Column, Message: fmt.Sprintf("more than %d problems; the rest is not listed", maxProblems)})
	default:
		l.problems = append(l.problems, p)
	}
}

func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return ""
}

func child(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// decodeInto reads node into the value that target points to.
func (l *loader) decodeInto(node *yaml.Node, path string, target any) {
	l.decode(node, path, reflect.ValueOf(target).Elem(), 0)
}

func (l *loader) decode(node *yaml.Node, path string, into reflect.Value, depth int) {
	if !l.spend(1, node, path, depth) {
		return
	}
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	l.positions[path] = node
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		// Never taken for an omission: labels or a match that got lost would
		// widen the fault to everything.
		l.problem(path, "has no value", "give it one or remove the line")
		return
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	if custom, ok := reflect.TypeAssert[nodeDecoder](into.Addr()); ok {
		custom.decodeNode(l, node, path)
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		l.decodeStruct(node, path, into, depth)
	case reflect.Slice:
		l.decodeSlice(node, path, into, depth)
	case reflect.Map:
		l.decodeMap(node, path, into, depth)
	default:
		l.decodeScalar(node, path, into)
	}
}

// spend counts n more values at a depth, and reports whether the document is
// still within its bounds.
func (l *loader) spend(n int, node *yaml.Node, path string, depth int) bool {
	if l.exhausted {
		return false
	}
	if l.nodes += n; l.nodes > maxNodes || depth > maxDepth {
		l.exhausted = true
		l.problemAt(node, path, fmt.Sprintf("nested deeper than %d levels or larger than %d values once aliases are expanded", maxDepth, maxNodes), "")
		return false
	}
	return true
}

func (l *loader) decodeStruct(node *yaml.Node, path string, into reflect.Value, depth int) {
	if node.Kind != yaml.MappingNode {
		l.problem(path, fmt.Sprintf("want fields, found %s", describe(node)), "")
		return
	}
	fields := map[string]reflect.Value{}
	var names []string
	for _, field := range reflect.VisibleFields(into.Type()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" { // an embedded struct has none; its fields are visible
			fields[name] = into.FieldByIndex(field.Index)
			names = append(names, name)
		}
	}
	for _, entry := range l.entries(node, path, depth) {
		at := child(path, entry.key.Value)
		field, known := fields[entry.key.Value]
		if !known {
			l.problemAt(entry.key, at, "unknown field", cmp.Or(istioFields[into.Type()][entry.key.Value], suggestion(entry.key.Value, names)))
			continue
		}
		l.decode(entry.value, at, field, depth+1)
		if value := resolve(entry.value); field.Kind() == reflect.String && value.Tag == "!!str" && value.Value == "" {
			// Never taken for an omission: a subset that got lost would widen
			// the fault.
			l.problem(at, "is empty", "give it a value or remove the line")
		}
	}
}

// resolve follows an alias.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// istioFields are the fields that Istio has where Squall has something else.
var istioFields = map[reflect.Type]map[string]string{ //nolint:gochecknoglobals // a constant table
	reflect.TypeFor[Match](): {
		"sourceLabels":    "name the callers' labels in spec.callers",
		"sourceNamespace": "name the callers' namespace in spec.callers",
		"port":            "write it in spec.target",
		"gateways":        "Squall disturbs the calls of sidecars only",
	},
	reflect.TypeFor[Metadata](): {
		"namespace":   "an experiment has none; write spec.target.namespace",
		"annotations": "an experiment has none; write spec.description",
	},
	reflect.TypeFor[Delay](): {
		"percent":          "write percentage beside delay; it is the fault's",
		"exponentialDelay": "Istio refuses it; write fixedDelay",
		"percentage":       "write it beside delay; it is the fault's",
	},
	reflect.TypeFor[Abort](): {
		"percentage": "write it beside abort; it is the fault's",
		"http2Error": "Istio refuses it; write httpStatus or grpcStatus",
	},
}

func (l *loader) decodeSlice(node *yaml.Node, path string, into reflect.Value, depth int) {
	if node.Kind != yaml.SequenceNode {
		l.problem(path, fmt.Sprintf("want a list, found %s", describe(node)), "start each item on a line of its own with a dash")
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), 0, len(node.Content)))
	for i, item := range node.Content {
		element := reflect.New(into.Type().Elem()).Elem()
		l.decode(item, fmt.Sprintf("%s[%d]", path, i), element, depth+1)
		into.Set(reflect.Append(into, element))
		if l.exhausted {
			return
		}
	}
}

func (l *loader) decodeMap(node *yaml.Node, path string, into reflect.Value, depth int) {
	if node.Kind != yaml.MappingNode {
		l.problem(path, fmt.Sprintf("want names with values, found %s", describe(node)), "")
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for _, entry := range l.entries(node, path, depth) {
		element := reflect.New(into.Type().Elem()).Elem()
		l.decode(entry.value, child(path, entry.key.Value), element, depth+1)
		into.SetMapIndex(reflect.ValueOf(entry.key.Value), element)
	}
}

func (l *loader) decodeScalar(node *yaml.Node, path string, into reflect.Value) {
	mismatch := func(want, remedy string) {
		l.problem(path, fmt.Sprintf("want %s, found %s", want, describe(node)), remedy)
	}
	switch into.Kind() {
	case reflect.String:
		if node.Kind != yaml.ScalarNode || node.Tag != "!!str" {
			remedy := ""
			if node.Kind == yaml.ScalarNode {
				remedy = fmt.Sprintf("put it in quotes: %q", node.Value)
			}
			mismatch("text", remedy)
			return
		}
		into.SetString(node.Value)
	case reflect.Bool:
		if node.Kind != yaml.ScalarNode || node.Tag != "!!bool" || !slices.Contains([]string{"true", "false"}, strings.ToLower(node.Value)) {
			mismatch("true or false", "")
			return
		}
		into.SetBool(strings.EqualFold(node.Value, "true"))
	case reflect.Int:
		value, err := strconv.ParseInt(node.Value, 10, 32)
		if node.Kind != yaml.ScalarNode || node.Tag != "!!int" || err != nil || !decimal.MatchString(node.Value) {
			remedy := ""
			switch {
			case node.Kind != yaml.ScalarNode:
			case node.Tag == "!!str" && decimal.MatchString(node.Value):
				remedy = "remove the quotes"
			case node.Tag == "!!int":
				remedy = "write it in decimal, without leading zeros"
			}
			mismatch("a whole number", remedy)
			return
		}
		into.SetInt(value)
	case reflect.Float64:
		value, ok := number(node)
		if !ok {
			mismatch("a number", "")
			return
		}
		into.SetFloat(value)
	default:
		panic(fmt.Sprintf("experiments: no way to decode %s", into.Type()))
	}
}

// decimal is a number as people mean it. YAML also knows octal (0503), other
// bases and underscores, which nobody means here.
var decimal = regexp.MustCompile(`^[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?$|^[+-]?\.[0-9]+$`)

// entry is one key of a mapping with its value.
type entry struct{ key, value *yaml.Node }

// entries lists a mapping's keys, merges (<<) expanded: a key of the mapping
// itself wins over a merged one, an earlier merge over a later one.
func (l *loader) entries(node *yaml.Node, path string, depth int) []entry {
	if !l.spend(len(node.Content)/2, node, path, depth) {
		return nil
	}
	var own, merged []entry
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.Tag == "!!merge":
			merged = append(merged, l.mergedEntries(value, path, depth)...)
		case key.Kind != yaml.ScalarNode || key.Tag != "!!str":
			l.problemAt(key, child(path, key.Value), fmt.Sprintf("want a name as key, found %s", describe(key)), "put it in quotes")
		case seen[key.Value] != nil:
			l.problemAt(key, child(path, key.Value), fmt.Sprintf("stands twice; first on line %d", seen[key.Value].Line), "remove one")
		default:
			seen[key.Value] = key
			own = append(own, entry{key, value})
		}
	}
	for _, e := range merged {
		if seen[e.key.Value] == nil {
			seen[e.key.Value] = e.key
			own = append(own, e)
		}
	}
	return own
}

func (l *loader) mergedEntries(node *yaml.Node, path string, depth int) []entry {
	if !l.spend(1, node, path, depth) {
		return nil
	}
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch node.Kind {
	case yaml.MappingNode:
		return l.entries(node, path, depth+1)
	case yaml.SequenceNode:
		var all []entry
		for _, item := range node.Content {
			all = append(all, l.mergedEntries(item, path, depth+1)...)
		}
		return all
	default:
		l.problemAt(node, path, fmt.Sprintf("want a mapping to merge, found %s", describe(node)), "")
		return nil
	}
}

// describe names what a node is in the words of somebody who wrote YAML.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "fields"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return describe(node.Alias)
	default:
		return describeScalar(node)
	}
}

func describeScalar(node *yaml.Node) string {
	value := node.Value
	if len(value) > 40 {
		value = value[:37] + "..."
	}
	switch node.Tag {
	case "!!str":
		return fmt.Sprintf("the text %q", value)
	case "!!int", "!!float":
		return "the number " + value
	case "!!bool":
		return "the truth value " + value
	case "!!null":
		return "nothing"
	default:
		return fmt.Sprintf("%s %q", node.Tag, value)
	}
}

// suggestion names the known field that an unknown one most resembles, or all
// of them when none is near.
func suggestion(unknown string, names []string) string {
	best, distance := "", len(unknown)/2+1
	for _, name := range names {
		if len(unknown) >= 3 && (strings.HasPrefix(unknown, name) || strings.HasPrefix(name, unknown)) {
			return fmt.Sprintf("did you mean %s?", name)
		}
		if d := levenshtein.ComputeDistance(strings.ToLower(unknown), strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "known here: " + strings.Join(names, ", ")
}
