package kubetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// mergePatch applies an RFC 7386 merge patch.
func mergePatch(object map[string]any, patch []byte) error {
	var change map[string]any
	if err := json.Unmarshal(patch, &change); err != nil {
		return err
	}
	merge(object, change)
	return nil
}

func merge(into, change map[string]any) {
	for name, value := range change {
		switch value := value.(type) {
		case nil:
			delete(into, name)
		case map[string]any:
			inner, isMap := into[name].(map[string]any)
			if !isMap {
				inner = map[string]any{}
				into[name] = inner
			}
			merge(inner, value)
		default:
			into[name] = numbers(value)
		}
	}
}

// number returns whole numbers as int64, as unstructured objects have them.
func number(value any) any {
	if f, is := value.(float64); is && f == float64(int64(f)) {
		return int64(f)
	}
	return value
}

// jsonPatch applies the operations test, add, replace and remove of RFC 6902 to
// fields of objects. It knows no indexes of lists.
func jsonPatch(object map[string]any, patch []byte) error {
	var operations []struct {
		Op    string          `json:"op"`
		Path  string          `json:"path"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(patch, &operations); err != nil {
		return err
	}
	for _, operation := range operations {
		at, name, err := field(object, operation.Path)
		if err != nil {
			return err
		}
		if operation.Op == "remove" {
			delete(at, name)
			continue
		}
		var value any
		if err := json.Unmarshal(operation.Value, &value); err != nil {
			return err
		}
		value = numbers(value)
		switch operation.Op {
		case "test":
			if !equalJSON(at[name], value) {
				return fmt.Errorf("testing value %s failed", operation.Path)
			}
		case "add", "replace":
			at[name] = value
		default:
			return fmt.Errorf("unexpected operation %q", operation.Op)
		}
	}
	return nil
}

// numbers is number for all parts of a value.
func numbers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			v[name] = numbers(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = numbers(inner)
		}
	}
	return number(value)
}

// field returns the object that has the field at a JSON pointer, and its name.
func field(object map[string]any, pointer string) (at map[string]any, name string, err error) {
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, part := range parts {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		if i == len(parts)-1 {
			return object, part, nil
		}
		inner, is := object[part].(map[string]any)
		if !is {
			return nil, "", errors.New("no such path: " + pointer)
		}
		object = inner
	}
	return nil, "", errors.New("no path")
}
