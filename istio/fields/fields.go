// Package fields reads the fields of Kubernetes objects that are known as JSON
// only. Fields that are missing or of another type read as empty.
package fields

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Strings returns the list of strings at a path.
func Strings(object map[string]any, path ...string) []string {
	list, _, err := unstructured.NestedStringSlice(object, path...)
	if err != nil {
		return nil
	}
	return list
}

// Maps returns the objects of a list without copying them; items of another type
// are left out.
func Maps(object map[string]any, field string) []map[string]any {
	list, _ := object[field].([]any)
	var maps []map[string]any
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			maps = append(maps, m)
		}
	}
	return maps
}

// Map returns the object in a field without copying it.
func Map(object map[string]any, field string) map[string]any {
	m, _ := object[field].(map[string]any)
	return m
}

// String returns the text in a field.
func String(object map[string]any, field string) string {
	s, _ := object[field].(string)
	return s
}

// Int reads a number as JSON or YAML decode it; ok is false if it is not one.
func Int(value any) (n int64, ok bool) {
	switch n := value.(type) {
	case int64:
		return n, true
	case float64:
		return int64(n), true
	default:
		return 0, false
	}
}

// List returns objects as a field of JSON holds them.
func List(maps []map[string]any) []any {
	out := make([]any, len(maps))
	for i, m := range maps {
		out[i] = m
	}
	return out
}

// FromStrings returns a map of strings as a field of JSON holds it.
func FromStrings(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for key, value := range m {
		out[key] = value
	}
	return out
}
