// Package strictyaml decodes YAML documents into Go values strictly: an unknown
// field, a wrong type, an empty value or a duplicate key is a problem with a
// position, and decoding continues after it, so that an author sees all problems at
// once.
package strictyaml

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/squall-chaos/squall/experiments/problem"
)

// Bounds on the work that one document may cause. Aliases are expanded where they
// are used, so a small file can describe a huge tree.
const (
	maxDepth = 32
	maxNodes = 100_000
	// MaxProblems is the number of problems that are reported at once.
	MaxProblems = 200
)

// Decoder decodes the documents of one file and collects the problems.
type Decoder struct {
	// Problems are the problems so far.
	Problems problem.List

	file string
	// remedies has, by type and field, what to write in place of a field that the
	// type does not have.
	remedies map[reflect.Type]map[string]string
	// positions has the node of each path of the current document.
	positions map[string]*yaml.Node
	nodes     int
	exhausted bool
}

// New returns a Decoder for a file, whose name is used in messages only. The
// remedies say, by type and field name, what to write in place of a field that the
// type does not have.
func New(file string, remedies map[reflect.Type]map[string]string) *Decoder {
	return &Decoder{file: file, remedies: remedies, positions: map[string]*yaml.Node{}}
}

// NodeDecoder is a type that decodes itself from a node and reports problems to the
// Decoder.
type NodeDecoder interface {
	DecodeNode(d *Decoder, node *yaml.Node, path string)
}

// Document decodes a document into the value that target points to. It reports
// whether the document was decoded to its end, however many problems it has.
func (l *Decoder) Document(root *yaml.Node, target any) (complete bool) {
	l.positions = map[string]*yaml.Node{"": root}
	l.nodes, l.exhausted = 0, false
	l.DecodeInto(root, "", target)
	return !l.exhausted
}

// Node returns the node at a path of the current document, or nil if the document
// does not have the path.
func (l *Decoder) Node(path string) *yaml.Node { return l.positions[path] }

// Report reports a problem at a path, at the position of the nearest part of the
// path that the document has.
func (l *Decoder) Report(path, message, remedy string) {
	p := problem.Problem{File: l.file, Path: path, Message: message, Remedy: remedy}
	for at := path; ; at = parent(at) {
		if node, ok := l.positions[at]; ok {
			p.Line, p.Column = node.Line, node.Column
			break
		}
		if at == "" {
			break
		}
	}
	l.Add(p)
}

// ReportAt reports a problem at a node.
func (l *Decoder) ReportAt(node *yaml.Node, path, message, remedy string) {
	l.Add(problem.Problem{File: l.file, Line: node.Line, Column: node.Column, Path: path, Message: message, Remedy: remedy})
}

// Add adds a problem unless it is known, or there are too many.
func (l *Decoder) Add(p problem.Problem) {
	switch {
	case slices.Contains(l.Problems, p) || len(l.Problems) > MaxProblems:
	case len(l.Problems) == MaxProblems:
		l.exhausted = true
		l.Problems = append(l.Problems, problem.Problem{File: l.file, Line: p.Line, Column: p.Column, Message: fmt.Sprintf("more than %d problems; the others are not listed", MaxProblems)})
	default:
		l.Problems = append(l.Problems, p)
	}
}

func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return ""
}

// Child returns the path of a field of the mapping at a path.
func Child(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// DecodeInto decodes a node into the value that target points to.
func (l *Decoder) DecodeInto(node *yaml.Node, path string, target any) {
	l.decode(node, path, reflect.ValueOf(target).Elem(), 0)
}

func (l *Decoder) decode(node *yaml.Node, path string, into reflect.Value, depth int) {
	if !l.spend(1, node, path, depth) {
		return
	}
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	l.positions[path] = node
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		// Not the same as an omission: lost labels or a lost match would widen the
		// fault to everything.
		l.Report(path, "has no value", "give it one or remove the line")
		return
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	if custom, ok := reflect.TypeAssert[NodeDecoder](into.Addr()); ok {
		custom.DecodeNode(l, node, path)
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

// spend counts n more values at a depth, and reports whether the document is within
// its bounds.
func (l *Decoder) spend(n int, node *yaml.Node, path string, depth int) bool {
	if l.exhausted {
		return false
	}
	if l.nodes += n; l.nodes > maxNodes || depth > maxDepth {
		l.exhausted = true
		l.ReportAt(node, path, fmt.Sprintf("nested deeper than %d levels or larger than %d values once aliases are expanded", maxDepth, maxNodes), "")
		return false
	}
	return true
}

func (l *Decoder) decodeStruct(node *yaml.Node, path string, into reflect.Value, depth int) {
	if node.Kind != yaml.MappingNode {
		l.Report(path, fmt.Sprintf("want fields, found %s", Describe(node)), "")
		return
	}
	fields := map[string]reflect.Value{}
	var names []string
	for _, field := range reflect.VisibleFields(into.Type()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" { // an embedded struct has no name, and its fields are visible
			fields[name] = into.FieldByIndex(field.Index)
			names = append(names, name)
		}
	}
	for _, entry := range l.entries(node, path, depth) {
		at := Child(path, entry.key.Value)
		field, known := fields[entry.key.Value]
		if !known {
			l.ReportAt(entry.key, at, "unknown field", cmp.Or(l.remedies[into.Type()][entry.key.Value], Suggest(entry.key.Value, names)))
			continue
		}
		l.decode(entry.value, at, field, depth+1)
		if value := resolve(entry.value); field.Kind() == reflect.String && value.Tag == "!!str" && value.Value == "" {
			// Not the same as an omission: a lost subset would widen the fault.
			l.Report(at, "is empty", "give it a value or remove the line")
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

func (l *Decoder) decodeSlice(node *yaml.Node, path string, into reflect.Value, depth int) {
	if node.Kind != yaml.SequenceNode {
		l.Report(path, fmt.Sprintf("want a list, found %s", Describe(node)), "start each item on a new line with a dash")
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

func (l *Decoder) decodeMap(node *yaml.Node, path string, into reflect.Value, depth int) {
	if node.Kind != yaml.MappingNode {
		l.Report(path, fmt.Sprintf("want names with values, found %s", Describe(node)), "")
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for _, entry := range l.entries(node, path, depth) {
		element := reflect.New(into.Type().Elem()).Elem()
		l.decode(entry.value, Child(path, entry.key.Value), element, depth+1)
		into.SetMapIndex(reflect.ValueOf(entry.key.Value), element)
	}
}

func (l *Decoder) decodeScalar(node *yaml.Node, path string, into reflect.Value) {
	mismatch := func(want, remedy string) {
		l.Report(path, fmt.Sprintf("want %s, found %s", want, Describe(node)), remedy)
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
		value, ok := Number(node)
		if !ok {
			mismatch("a number", "")
			return
		}
		into.SetFloat(value)
	default:
		panic(fmt.Sprintf("strictyaml: no way to decode %s", into.Type()))
	}
}

// decimal is a decimal number. YAML also has octal (0503), other bases and
// underscores, which are mistakes here.
var decimal = regexp.MustCompile(`^[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?$|^[+-]?\.[0-9]+$`)

// entry is one key of a mapping with its value.
type entry struct{ key, value *yaml.Node }

// entries returns the entries of a mapping, with merges (<<) expanded: a key of the
// mapping takes precedence over a merged one, an earlier merge over a later one.
func (l *Decoder) entries(node *yaml.Node, path string, depth int) []entry {
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
			l.ReportAt(key, Child(path, key.Value), fmt.Sprintf("want a name as key, found %s", Describe(key)), "put it in quotes")
		case seen[key.Value] != nil:
			l.ReportAt(key, Child(path, key.Value), fmt.Sprintf("duplicate key; first on line %d", seen[key.Value].Line), "remove one")
		default:
			seen[key.Value] = key
			own = append(own, entry{key: key, value: value})
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

func (l *Decoder) mergedEntries(node *yaml.Node, path string, depth int) []entry {
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
		l.ReportAt(node, path, fmt.Sprintf("want a mapping to merge, found %s", Describe(node)), "")
		return nil
	}
}

// Describe returns what a node is, in the terms of an author of YAML.
func Describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "fields"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return Describe(node.Alias)
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
		return "the boolean " + value
	case "!!null":
		return "nothing"
	default:
		return fmt.Sprintf("%s %q", node.Tag, value)
	}
}
