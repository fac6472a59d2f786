package cluster

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/runner"
)

// needed are the permissions of a run in the namespace of its objects, by the
// kinds that it makes there.
var needed = []struct { //nolint:gochecknoglobals // a constant table
	kind, group, resource string
	verbs                 []string
}{
	{"VirtualService", istioGroup, "virtualservices", []string{"create", "get", "watch", "patch", "delete"}},
	{"ServiceEntry", istioGroup, "serviceentries", []string{"create", "get", "watch", "delete"}},
	{"Job", "batch", "jobs", []string{"create", "get", "watch", "patch", "delete"}},
}

// Permitted asks the API server whether the user may do in a namespace what a
// run does there that makes objects of these kinds. The error names every
// permission that is missing, as a *runner.DeniedError.
func (c *Cluster) Permitted(ctx context.Context, namespace string, kinds []string) error {
	type question struct{ group, resource, verb string }
	var questions []question
	for _, n := range needed {
		if !slices.Contains(kinds, n.kind) {
			continue
		}
		for _, verb := range n.verbs {
			questions = append(questions, question{n.group, n.resource, verb})
		}
	}
	allowed := make([]bool, len(questions))
	group, ctx := errgroup.WithContext(ctx)
	for i, q := range questions {
		group.Go(func() (err error) {
			allowed[i], err = c.allowed(ctx, namespace, q.group, q.resource, q.verb)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var missing []string
	for i, q := range questions {
		if !allowed[i] {
			missing = append(missing, q.verb+" "+q.resource+"."+q.group)
		}
	}
	if len(missing) > 0 {
		return &runner.DeniedError{Namespace: namespace, Missing: missing}
	}
	return nil
}

// allowed asks by a SelfSubjectAccessReview.
func (c *Cluster) allowed(ctx context.Context, namespace, group, resource, verb string) (bool, error) {
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1",
		"kind":       "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{
			"namespace": namespace, "group": group, "resource": resource, "verb": verb,
		}},
	}}
	reviews := c.objects.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"})
	answer, err := reviews.Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask whether %s %s is permitted: %w", verb, resource, c.explain(err))
	}
	allowed, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
	return allowed, err
}
