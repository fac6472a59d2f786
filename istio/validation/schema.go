// Package validation finds what makes the API server or istiod refuse an object of
// Istio: values of a wrong type, and the rules that decide how proxies route calls.
//
// It does not repeat all of Istio's validation. It accepts unknown fields.
package validation

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Problem is why an object is refused.
type Problem struct {
	// Path is the field, such as spec.http[0].route[1].weight.
	Path    string
	Message string
}

// schema is the type of a value. The types come from the schemas of Istio's
// CustomResourceDefinitions (istio.io/api, customresourcedefinitions.gen.yaml).
type schema struct {
	kind   kind
	item   *schema           // of lists and maps
	fields map[string]schema // of objects; others are accepted
}

type kind int

const (
	text kind = iota
	integer
	number
	boolean
	duration
	list
	mapping
	object
)

func (k kind) String() string {
	return [...]string{"text", "a whole number", "a number", "true or false", "a duration such as 5s", "a list", "names with values", "fields"}[k]
}

func of(k kind) schema                         { return schema{kind: k} }
func listOf(item schema) schema                { return schema{kind: list, item: &item} }
func mapOf(item schema) schema                 { return schema{kind: mapping, item: &item} }
func fieldsOf(fields map[string]schema) schema { return schema{kind: object, fields: fields} }

// check appends the problems of a value. An absent or null value has none.
func (s schema) check(path string, value any, found []Problem) []Problem {
	if value == nil {
		return found
	}
	wrong := append(found, Problem{Path: path, Message: fmt.Sprintf("want %s, found %s", s.kind, describe(value))})
	switch s.kind {
	case list:
		items, ok := value.([]any)
		if !ok {
			return wrong
		}
		for i, item := range items {
			found = s.item.check(fmt.Sprintf("%s[%d]", path, i), item, found)
		}
	case mapping, object:
		own, ok := value.(map[string]any)
		if !ok {
			return wrong
		}
		for _, name := range slices.Sorted(maps.Keys(own)) {
			if field, known := s.fields[name]; known {
				found = field.check(path+"."+name, own[name], found)
			} else if s.item != nil {
				found = s.item.check(path+"."+name, own[name], found)
			}
		}
	default:
		if !s.kind.holds(value) {
			return wrong
		}
	}
	return found
}

// holds reports whether a scalar is of the kind.
func (k kind) holds(value any) bool {
	switch v := value.(type) {
	case string:
		if k == duration {
			_, err := time.ParseDuration(v)
			return err == nil
		}
		return k == text
	case bool:
		return k == boolean
	case int64:
		return k == integer || k == number
	case float64:
		return k == number || k == integer && v == math.Trunc(v)
	default:
		return false
	}
}

func describe(value any) string {
	switch v := value.(type) {
	case string:
		if len(v) > 40 {
			v = v[:37] + "..."
		}
		return fmt.Sprintf("the text %q", v)
	case bool:
		return fmt.Sprintf("%t", v)
	case []any:
		return "a list"
	case map[string]any:
		return "fields"
	default:
		return fmt.Sprintf("%v", v)
	}
}
