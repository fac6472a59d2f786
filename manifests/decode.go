package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/squall-chaos/squall/internal/yamlerr"
)

const (
	// maxDepth limits the nesting of a manifest. Real manifests stay below 30.
	maxDepth = 200
	// maxAliased limits the expansion of YAML aliases in one file, in bytes, so
	// that a small file does not become a large mesh.
	maxAliased = 16 << 20
	// nodeBytes is the approximate size of a value without its text.
	nodeBytes = 64
)

// yaml reads the documents of a file. It stops after a document that is not
// YAML, because the start of the next one is unknown.
func (r *reader) yaml(name string, content []byte) {
	if r.printedList(name, content) {
		return
	}
	documents := yaml.NewDecoder(bytes.NewReader(content))
	c := converter{reader: r, file: name, template: isTemplate(content), aliased: maxAliased}
	for {
		var document yaml.Node
		err := documents.Decode(&document)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			line, message := yamlerr.Split(err)
			// The error of the library has the line on which the unfinished part
			// began.
			r.unreadable(name, content, line, min(line, 1), "is not YAML, here or in the lines below: %s", message)
			return
		}
		if len(document.Content) > 0 && document.Content[0].ShortTag() != "!!null" {
			c.manifest(document.Content[0], 0)
		}
	}
}

// isTemplate reports whether a text has expressions of a template.
func isTemplate(content []byte) bool { return bytes.Contains(content, []byte("{{")) }

// unreadable reports a file that cannot be parsed. A template, and a file that does not
// seem to hold a manifest, may be skipped; a broken manifest may not, because the mesh
// would lack its objects.
func (r *reader) unreadable(name string, content []byte, line, column int, format string, args ...any) {
	if isTemplate(content) || !bytes.Contains(content, []byte("apiVersion")) {
		r.skip(name, line, column, "", format, args...)
		return
	}
	r.add(name, line, column, "", format, args...)
}

// printedList reads a list in the format of kubectl item by item, because the
// tree of a whole list takes several times the memory of its objects. It returns
// false, and has no effect, if the file is not such a list or has a problem.
func (r *reader) printedList(name string, content []byte) bool {
	items, ok := splitList(content)
	if !ok {
		return false
	}
	objects, ok := convertItems(name, items)
	if !ok {
		return false
	}
	r.printed = true
	for _, o := range objects {
		r.manifest(o)
	}
	return true
}

// convertItems converts the items of a list on all processors. ok is false if one
// of them cannot be read without the rest of the list.
func convertItems(name string, items []item) (objects []*object, ok bool) {
	objects = make([]*object, len(items))
	var group errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		group.Go(func() error {
			c := converter{reader: &reader{}, file: name, aliased: maxAliased}
			for i := worker; i < len(items); i += workers {
				o, ok := c.item(items[i])
				if !ok {
					return errNoItem
				}
				objects[i] = o
			}
			return nil
		})
	}
	return objects, group.Wait() == nil
}

// errNoItem is the error for an item that cannot be read without the rest of
// the list.
var errNoItem = errors.New("not a separate item")

// item converts an item of a list.
func (c *converter) item(i item) (o *object, ok bool) {
	var document yaml.Node
	if err := yaml.Unmarshal(i.text, &document); err != nil {
		return nil, false
	}
	list := document.Content[0]
	if list.Kind != yaml.SequenceNode || len(list.Content) != 1 {
		return nil, false
	}
	o, ok = c.object(list.Content[0])
	o.line += i.line - 1
	return o, ok
}

// listHead and listTail are the texts that kubectl prints before and after the
// items of a list.
const (
	listHead = "apiVersion: v1\nitems:\n"
	listTail = "kind: List\n"
)

// item is the text of one item of a list, and its first line.
type item struct {
	text []byte
	line int
}

// splitList splits a list in the format of kubectl before each line that begins
// with a dash. No other line of an item does, unless the item is not valid YAML.
func splitList(content []byte) (items []item, ok bool) {
	rest, ok := bytes.CutPrefix(content, []byte(listHead))
	if !ok {
		return nil, false
	}
	line := 1 + strings.Count(listHead, "\n")
	for bytes.HasPrefix(rest, []byte("- ")) {
		end := 0
		for {
			newline := bytes.IndexByte(rest[end:], '\n')
			if newline < 0 {
				return nil, false
			}
			end += newline + 1
			if end == len(rest) || rest[end] != ' ' && rest[end] != '\n' {
				break
			}
		}
		items = append(items, item{text: rest[:end], line: line})
		line += bytes.Count(rest[:end], []byte("\n"))
		rest = rest[end:]
	}
	return items, bytes.HasPrefix(rest, []byte(listTail)) && !bytes.Contains(rest, []byte("\n---"))
}

// converter converts YAML nodes to the JSON values of unstructured objects: maps,
// lists, strings, bools, int64 and float64.
type converter struct {
	*reader
	file string
	// template reports whether the file has expressions of a template.
	template bool
	// aliased is the number of bytes that aliases may still expand to.
	aliased int
}

// manifest reads one object, or the items of a list, each with its position.
func (c *converter) manifest(n *yaml.Node, depth int) {
	kind, items := field(n, "kind"), field(n, "items")
	if kind != nil && items != nil && items.Kind == yaml.SequenceNode && strings.HasSuffix(kind.Value, listSuffix) && depth < maxDepth {
		c.printed = true
		for i, item := range items.Content {
			c.manifest(item, depth+1)
			items.Content[i] = nil // release the memory of a large list early
		}
		return
	}
	if o, ok := c.object(n); ok {
		c.reader.manifest(o)
	}
}

// object converts a node that must be a mapping.
func (c *converter) object(n *yaml.Node) (o *object, ok bool) {
	value, ok := c.value(n, 0, false)
	content, _ := value.(map[string]any)
	return &object{Unstructured: &unstructured.Unstructured{Object: content}, file: c.file, line: n.Line, column: n.Column}, ok
}

// field returns the value of a key in a mapping, or nil.
func field(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func (c *converter) problem(n *yaml.Node, format string, args ...any) (any, bool) {
	if c.template {
		c.skip(c.file, n.Line, n.Column, "", format, args...)
	} else {
		c.add(c.file, n.Line, n.Column, "", format, args...)
	}
	return nil, false
}

// value converts a node. ok is false if a problem was reported.
func (c *converter) value(n *yaml.Node, depth int, aliased bool) (value any, ok bool) {
	if aliased {
		c.aliased -= nodeBytes + len(n.Value)
	}
	switch {
	case depth > maxDepth:
		return c.problem(n, "is nested more than %d deep", maxDepth)
	case c.aliased < 0:
		return c.problem(n, "YAML aliases expand beyond the limit")
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias, depth+1, true)
	case yaml.MappingNode:
		return c.mapping(n, depth, aliased)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			if list[i], ok = c.value(item, depth+1, aliased); !ok {
				return nil, false
			}
		}
		return list, true
	default:
		return c.scalar(n)
	}
}

func (c *converter) mapping(n *yaml.Node, depth int, aliased bool) (value any, ok bool) {
	m := make(map[string]any, len(n.Content)/2)
	var merged []map[string]any
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		value, ok := c.value(n.Content[i+1], depth+1, aliased)
		if !ok {
			return nil, false
		}
		if key.ShortTag() == "!!merge" {
			from, ok := mergeSources(value)
			if !ok {
				return c.problem(key, "<< merges mappings only")
			}
			merged = append(merged, from...)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			return c.problem(key, "a key must be a string or a number")
		}
		if _, twice := m[key.Value]; twice {
			return c.problem(key, "duplicate key %s", strconv.Quote(key.Value))
		}
		m[key.Value] = value
	}
	// Written keys take precedence over merged ones, and earlier sources over
	// later ones.
	for _, source := range merged {
		for key, value := range source {
			if _, has := m[key]; !has {
				m[key] = value
			}
		}
	}
	return m, true
}

// mergeSources returns the mappings of a merge key.
func mergeSources(value any) (sources []map[string]any, ok bool) {
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	for _, item := range list {
		source, isMap := item.(map[string]any)
		if !isMap {
			return nil, false
		}
		sources = append(sources, source)
	}
	return sources, true
}

func (c *converter) scalar(n *yaml.Node) (value any, ok bool) {
	switch n.ShortTag() {
	case "!!null":
		return nil, true
	case "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			return c.problem(n, "%s is not a valid %s", strconv.Quote(n.Value), strings.TrimPrefix(n.ShortTag(), "!!"))
		}
		if value, ok := number(v); ok {
			return value, true
		}
		return c.problem(n, "%s is not a number in JSON", strconv.Quote(n.Value))
	default:
		return n.Value, true // timestamps too: JSON has no type for them
	}
}

// number returns a number in its JSON type, and a bool unchanged.
func number(v any) (value any, ok bool) {
	switch x := v.(type) {
	case int:
		return int64(x), true
	case uint64:
		return float64(x), true
	case float64:
		return x, !math.IsNaN(x) && !math.IsInf(x, 0)
	default:
		return v, true
	}
}

// json reads the JSON documents of a file.
func (r *reader) json(name string, content []byte) {
	documents := json.NewDecoder(bytes.NewReader(content))
	for {
		var text json.RawMessage
		err := documents.Decode(&text)
		if errors.Is(err, io.EOF) {
			return
		}
		end := documents.InputOffset()
		line, column := position(content, end-int64(len(text)))
		var manifest map[string]any
		if err == nil {
			err = utiljson.Unmarshal(text, &manifest)
		}
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			line, column = position(content, syntax.Offset-1)
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			line, column = position(content, int64(len(content)))
		}
		if err != nil {
			r.unreadable(name, content, line, column, "is not JSON: %v", err)
			return
		}
		r.manifest(&object{Unstructured: &unstructured.Unstructured{Object: manifest}, file: name, line: line, column: column})
	}
}

// position returns the line and column of an offset, both counted from 1.
func position(content []byte, offset int64) (line, column int) {
	before := content[:max(0, min(offset, int64(len(content))))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}
