package objects

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ChangedError is the error for an object that the cluster has stored, or would
// store, with another value of a field than the one that was sent.
type ChangedError struct {
	Object Ref
	// Field is the path of the field, such as spec.suspend.
	Field string
	// Sent and Stored are the values as JSON; empty if the field is not set.
	Sent, Stored string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s of %s is %s instead of %s", e.Field, e.Object, valueInWords(e.Stored), valueInWords(e.Sent))
}

// Hint returns the next step.
func (e *ChangedError) Hint() string {
	return "a webhook, a policy or another program changes the objects of Squall; exempt objects with the label " + ManagedByLabel + "=" + ManagedByValue
}

// longestValue is the number of bytes of a value that an error shows.
const longestValue = 100

func valueInWords(value string) string {
	switch {
	case value == "":
		return "not set"
	case len(value) > longestValue:
		return value[:longestValue] + "..."
	default:
		return value
	}
}

// jobFields are the fields of a Job on which the heartbeat relies, with the values
// that Kubernetes uses if they are not set.
var jobFields = []struct { //nolint:gochecknoglobals // a constant table
	name  string
	unset any
}{
	{"activeDeadlineSeconds", nil},
	{"ttlSecondsAfterFinished", nil},
	{"suspend", false},
	{"parallelism", nil},
	{"completions", nil},
	{"backoffLimit", nil},
	{"managedBy", "kubernetes.io/job-controller"},
}

// Compare compares an object of a run with the same object as the cluster returns it,
// in all fields that Squall sets or relies on. The error is a *ChangedError for the
// first field that differs. Fields that the API server adds, and labels and annotations
// of others, are ignored.
func Compare(sent, stored *unstructured.Unstructured) error {
	if err := CompareMetadata(sent, stored); err != nil {
		return err
	}
	if sent.GetKind() != KindJob {
		return changed(sent, "spec", sent.Object["spec"], stored.Object["spec"])
	}
	for _, field := range jobFields {
		if err := changed(sent, "spec."+field.name, jobField(sent, field.name, field.unset), jobField(stored, field.name, field.unset)); err != nil {
			return err
		}
	}
	return nil
}

func jobField(job *unstructured.Unstructured, name string, unset any) any {
	value, found, _ := unstructured.NestedFieldNoCopy(job.Object, "spec", name)
	if !found || value == nil {
		return unset
	}
	return value
}

// CompareMetadata is Compare for the metadata alone: the owners, the finalizers, and
// the labels and annotations that Squall has set.
func CompareMetadata(sent, stored *unstructured.Unstructured) error {
	for _, field := range []struct {
		name         string
		sent, stored map[string]string
	}{
		{name: "metadata.labels", sent: sent.GetLabels(), stored: stored.GetLabels()},
		{name: "metadata.annotations", sent: sent.GetAnnotations(), stored: stored.GetAnnotations()},
	} {
		for _, key := range slices.Sorted(maps.Keys(field.sent)) {
			value, has := field.stored[key]
			if !has || value != field.sent[key] {
				return &ChangedError{Object: RefTo(stored), Field: field.name + "[" + key + "]", Sent: inJSON(field.sent[key]), Stored: existing(value, has)}
			}
		}
	}
	if err := changed(stored, "metadata.finalizers", optional(sent.GetFinalizers()), optional(stored.GetFinalizers())); err != nil {
		return err
	}
	return changed(stored, "metadata.ownerReferences", optional(sent.GetOwnerReferences()), optional(stored.GetOwnerReferences()))
}

// optional returns nil for an empty list, which is the same as no list.
func optional[E any](list []E) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

func existing(value string, has bool) string {
	if !has {
		return ""
	}
	return inJSON(value)
}

// inJSON returns a value as JSON; empty for nil.
func inJSON(value any) string {
	if value == nil {
		return ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// changed returns an error for the first field at or below a path that differs.
func changed(object *unstructured.Unstructured, path string, sent, stored any) error {
	field, one, other := firstDifference(path, decoded(sent), decoded(stored))
	if field == "" {
		return nil
	}
	return &ChangedError{Object: RefTo(object), Field: field, Sent: inJSON(one), Stored: inJSON(other)}
}

// decoded returns a value as JSON has it, so that values of different Go types can be
// compared.
func decoded(value any) any {
	var plain any
	if text, err := json.Marshal(value); err != nil || json.Unmarshal(text, &plain) != nil {
		return value
	}
	return plain
}

// firstDifference returns the path of the first difference of two decoded values, and
// both values there; an empty path if they are equal.
func firstDifference(path string, a, b any) (field string, one, other any) {
	if first, is := a.(map[string]any); is {
		if second, is := b.(map[string]any); is {
			return differenceOfMaps(path, first, second)
		}
	}
	if first, is := a.([]any); is {
		if second, is := b.([]any); is && len(first) == len(second) {
			for i := range first {
				if field, one, other = firstDifference(fmt.Sprintf("%s[%d]", path, i), first[i], second[i]); field != "" {
					return field, one, other
				}
			}
			return "", nil, nil
		}
	}
	if inJSON(a) == inJSON(b) {
		return "", nil, nil
	}
	return path, a, b
}

func differenceOfMaps(path string, a, b map[string]any) (field string, one, other any) {
	keys := map[string]bool{}
	for key := range a {
		keys[key] = true
	}
	for key := range b {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if field, one, other = firstDifference(path+"."+key, a[key], b[key]); field != "" {
			return field, one, other
		}
	}
	return "", nil, nil
}
