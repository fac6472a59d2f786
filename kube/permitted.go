package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// needed lists the permissions of a run in the namespace of its objects, by kind.
var needed = []struct { //nolint:gochecknoglobals // a constant table
	kind, group, resource string
	verbs                 []string
}{
	{objects.KindVirtualService, istioGroup, "virtualservices", []string{"create", "get", "list", "watch", "patch", "delete"}},
	{objects.KindServiceEntry, istioGroup, "serviceentries", []string{"create", "get", "list", "watch", "delete"}},
	{objects.KindDestinationRule, istioGroup, "destinationrules", []string{"create", "get", "list", "watch", "delete"}},
	{objects.KindJob, "batch", "jobs", []string{"create", "get", "list", "watch", "patch", "delete"}},
}

// following lists the permissions of a run on the VirtualServices that its
// objects are based on, in all namespaces: a run watches their routes.
var following = []string{"get", "list", "watch"} //nolint:gochecknoglobals // a constant table

// Permission is an action that a user may or may not perform, in a namespace or,
// if it is empty, in the whole cluster.
type Permission struct {
	Verb, Resource, Group, Namespace string
	// Name limits the permission to one object.
	Name string
}

// String returns the permission as text: "create jobs.batch".
func (p Permission) String() string {
	return p.Verb + " " + schema.GroupResource{Group: p.Group, Resource: p.Resource}.String()
}

// Permitted asks the API server whether the user may perform the actions of a
// run that creates objects of these kinds in a namespace. The error is a
// *runner.DeniedError with every missing permission.
func (c Access) Permitted(ctx context.Context, namespace string, kinds []string) error {
	var asked []Permission
	for _, n := range needed {
		if !slices.Contains(kinds, n.kind) {
			continue
		}
		for _, verb := range n.verbs {
			asked = append(asked, Permission{Verb: verb, Resource: n.resource, Group: n.group, Namespace: namespace})
		}
	}
	for _, verb := range following {
		asked = append(asked, Permission{Verb: verb, Resource: "virtualservices", Group: istioGroup})
	}
	asked = append(asked, Permission{Verb: "get", Resource: leases.Resource, Group: leases.Group, Name: objects.HoldName})
	missing, err := c.Missing(ctx, asked)
	if err != nil || len(missing) == 0 {
		return err
	}
	denied := &runner.DeniedError{Namespace: namespace}
	for _, p := range missing {
		text := p.String()
		if p.Namespace == "" {
			text += " in the whole cluster"
		}
		denied.Missing = append(denied.Missing, text)
	}
	return denied
}

// Missing returns the permissions that the user does not have.
func (c Access) Missing(ctx context.Context, permissions []Permission) ([]Permission, error) {
	allowed := make([]bool, len(permissions))
	group, ctx := errgroup.WithContext(ctx)
	for i, p := range permissions {
		group.Go(func() (err error) {
			allowed[i], err = c.allowed(ctx, p)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var missing []Permission
	for i, p := range permissions {
		if !allowed[i] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

// allowed checks a permission with a SelfSubjectAccessReview.
func (c Access) allowed(ctx context.Context, p Permission) (bool, error) {
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1",
		"kind":       "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{
			"namespace": p.Namespace, "group": p.Group, "resource": p.Resource, "verb": p.Verb, "name": p.Name,
		}},
	}}
	reviews := c.objects.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"})
	answer, err := reviews.Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask whether %s is permitted: %w", p, c.Explain(err))
	}
	allowed, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
	return allowed, err
}

// Need is a set of actions on one resource that a user needs.
type Need struct {
	// Namespace is empty for the whole cluster.
	Namespace       string
	Group, Resource string
	// Name limits the need to one object.
	Name  string
	Verbs []string
	// Without describes the effect of missing permissions; empty if Squall cannot
	// work without them.
	Without string
}

// Permissions returns the single permissions of the need.
func (n Need) Permissions() []Permission {
	permissions := make([]Permission, len(n.Verbs))
	for i, verb := range n.Verbs {
		permissions[i] = Permission{Verb: verb, Resource: n.Resource, Group: n.Group, Namespace: n.Namespace, Name: n.Name}
	}
	return permissions
}

// Rule returns the rule of a Role or ClusterRole that grants some verbs.
func (n Need) Rule(verbs []string) string {
	name := ""
	if n.Name != "" {
		name = fmt.Sprintf(", resourceNames: [%s]", n.Name)
	}
	return fmt.Sprintf("- {apiGroups: [%q], resources: [%s]%s, verbs: [%s]}", n.Group, n.Resource, name, strings.Join(verbs, ", "))
}

// Needs returns the permissions of Squall's commands for callers or a home in
// some namespaces, as deploy/rbac.yaml grants them. The overrides of the control
// plane name the places of its settings.
func Needs(namespaces []string, o config.Overrides, gatewayAPI bool) []Need {
	needs := []Need{
		{Group: istioGroup, Resource: "virtualservices", Verbs: following},
		{Group: istioGroup, Resource: "serviceentries", Verbs: []string{"list"}},
		{Group: istioGroup, Resource: "destinationrules", Verbs: []string{"list"}, Without: "blackholes do not have the connect timeouts and limits of their targets"},
		{Group: istioGroup, Resource: "sidecars", Verbs: []string{"list"}},
		{Group: istioGroup, Resource: "gateways", Verbs: []string{"list"}, Without: "gateways among the callers, which a fault does not reach, are not found"},
		{Resource: "services", Verbs: []string{"list"}},
		{Resource: "namespaces", Verbs: []string{"list"}},
		{Group: webhooks.Group, Resource: webhooks.Resource, Verbs: []string{"list"}, Without: "tags of the control plane's revisions are not known"},
		{Group: leases.Group, Resource: leases.Resource, Name: objects.HoldName, Verbs: []string{"get"}},
	}
	if gatewayAPI {
		for _, resource := range gatewayResources {
			needs = append(needs, Need{Group: gatewayGroup, Resource: resource, Verbs: []string{"list"}})
		}
	}
	plane := config.ControlPlane{Namespace: cmp.Or(o.Namespace, config.DefaultNamespace), Revision: cmp.Or(o.Revision, config.DefaultRevision)}
	needs = append(needs,
		Need{Namespace: plane.Namespace, Resource: configMaps.Resource, Name: plane.ConfigMap(), Verbs: []string{"get"}, Without: "Istio's defaults are assumed"},
		Need{Namespace: plane.Namespace, Group: deployments.Group, Resource: deployments.Resource, Verbs: []string{"list"}, Without: "the cluster domain is assumed to be cluster.local unless --cluster-domain names it"},
	)
	for _, namespace := range namespaces {
		for _, n := range needed {
			need := Need{Namespace: namespace, Group: n.group, Resource: n.resource, Verbs: n.verbs}
			switch n.kind {
			case objects.KindServiceEntry:
				need.Without = "blackholes are refused"
			case objects.KindDestinationRule:
				need.Without = "blackholes of targets with a DestinationRule are refused"
			}
			needs = append(needs, need)
		}
		needs = append(needs, holding(namespace, "squall rollback --all -n "+namespace+" does not keep runs from starting")...)
	}
	return append(needs, holding(objects.HoldEverywhere, "squall rollback --all does not keep all runs from starting")...)
}

// holding returns the needs of holding the runs of a namespace.
func holding(namespace, without string) []Need {
	return []Need{
		{Namespace: namespace, Group: leases.Group, Resource: leases.Resource, Verbs: []string{"create"}, Without: without},
		{Namespace: namespace, Group: leases.Group, Resource: leases.Resource, Name: objects.HoldName, Verbs: []string{"get", "update", "delete"}, Without: without},
	}
}
