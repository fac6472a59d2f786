package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// rbac returns the resource of a kind of the API group.
func rbac(kind string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: strings.ToLower(kind) + "s"}
}

// clientOf returns the client for an object.
func clientOf(kube dynamic.Interface, object *unstructured.Unstructured) dynamic.ResourceInterface {
	resource, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	if namespace := object.GetNamespace(); namespace != "" {
		return kube.Resource(resource).Namespace(namespace)
	}
	return kube.Resource(resource)
}

// apply creates an object for the time of a test.
func apply(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	client := clientOf(mesh.Kube, object)
	if _, err := client.Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Delete(context.WithoutCancel(t.Context()), object.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// documented creates the roles in the documentation.
func documented(t *testing.T) {
	t.Helper()
	manifests, err := os.ReadFile("../../deploy/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range decoded(t, manifests) {
		apply(t, object)
	}
}

// decoded decodes manifests.
func decoded(t *testing.T, manifests []byte) (objects []*unstructured.Unstructured) {
	t.Helper()
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := documents.Decode(object); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
}

// bind binds a role to the user of the context restricted, in a namespace or, if it is
// empty, in the whole cluster.
func bind(t *testing.T, kind, role, namespace string) {
	t.Helper()
	binding := "ClusterRoleBinding"
	if namespace != "" {
		binding = "RoleBinding"
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": binding,
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "restricted"}},
	}}
	object.SetName(role)
	object.SetNamespace(namespace)
	apply(t, object)
}

// bindAll binds the roles as documented, for callers in shop, and waits until the
// bindings are effective.
func bindAll(t *testing.T) {
	t.Helper()
	documented(t)
	bind(t, "ClusterRole", "squall-reader", "")
	bind(t, "ClusterRole", "squall-faults", "shop")
	bind(t, "Role", "squall-istio", "istio-system")
	bind(t, "Role", "squall-hold", "istio-system")
	user := restricted(t)
	eventually(t, func() error {
		return errors.Join(
			permits(t, user, access{"", "networking.istio.io", "sidecars", "list"}, true),
			permits(t, user, access{"shop", "batch", "jobs", "patch"}, true),
			permits(t, user, access{"istio-system", "apps", "deployments", "list"}, true),
		)
	})
}

// restricted is a client with the permissions of the user.
func restricted(t *testing.T) dynamic.Interface {
	t.Helper()
	return clientAs(t, mesh.Dir+"/kubeconfig", "restricted")
}

// clientAs is a client with the permissions of a context of a kubeconfig.
func clientAs(t *testing.T, kubeconfig, user string) dynamic.Interface {
	t.Helper()
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: user}).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// access is one thing to do.
type access struct{ namespace, group, resource, verb string }

// permits is an error unless the API server permits the access to the user, or
// does not.
func permits(t *testing.T, user dynamic.Interface, a access, want bool) error {
	t.Helper()
	attributes := map[string]any{"namespace": a.namespace, "group": a.group, "resource": a.resource, "verb": a.verb}
	switch a.resource {
	case "configmaps":
		attributes["name"] = "istio"
	case "leases":
		attributes["name"] = "squall-hold"
	}
	review, err := user.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": map[string]any{"resourceAttributes": attributes},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if allowed, _, _ := unstructured.NestedBool(review.Object, "status", "allowed"); allowed != want {
		return fmt.Errorf("%v is permitted: %v", a, allowed)
	}
	return nil
}

// without takes a verb on a resource out of roles while do goes on. The access
// is one that is no longer permitted then.
func without(t *testing.T, user dynamic.Interface, a access, roles []string, do func()) {
	t.Helper()
	for _, name := range roles {
		var client dynamic.ResourceInterface = mesh.Kube.Resource(rbac("ClusterRole"))
		if name == "squall-istio" {
			client = mesh.Kube.Resource(rbac("Role")).Namespace("istio-system")
		}
		role, err := client.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			role.SetResourceVersion("")
			if _, err := client.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error { return permits(t, user, a, true) })
		}()
		narrowed := role.DeepCopy()
		removeVerb(t, narrowed, a)
		if _, err := client.Update(t.Context(), narrowed, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() error { return permits(t, user, a, false) })
	do()
}

func removeVerb(t *testing.T, role *unstructured.Unstructured, a access) {
	t.Helper()
	rules, _, err := unstructured.NestedSlice(role.Object, "rules")
	if err != nil {
		t.Fatal(err)
	}
	var kept []any
	for _, rule := range rules {
		r, ok := rule.(map[string]any)
		if !ok {
			t.Fatalf("rule %v", rule)
		}
		resources, _, _ := unstructured.NestedStringSlice(r, "resources")
		verbs, _, _ := unstructured.NestedStringSlice(r, "verbs")
		if slices.Contains(resources, a.resource) {
			less := slices.DeleteFunc(slices.Clone(verbs), func(verb string) bool { return verb == a.verb })
			if len(less) == len(verbs) {
				t.Fatalf("role %s does not grant %v", role.GetName(), a)
			}
			if len(less) == 0 {
				continue
			}
			_ = unstructured.SetNestedStringSlice(r, less, "verbs") // it had some
		}
		kept = append(kept, r)
	}
	_ = unstructured.SetNestedSlice(role.Object, kept, "rules") // it had some
}

func matches(t *testing.T, pattern, text string) bool {
	t.Helper()
	return regexp.MustCompile(pattern).MatchString(text)
}

// as adds the context of the user.
func as(args ...string) []string { return append(args, "--context", "restricted") }

func TestDocumentedPermissionsSuffice(t *testing.T) {
	bindAll(t)
	asked(t, 0, as("plan", spec{}.write(t))...)
	for _, faults := range []string{"", "[{blackhole: {mode: reject}}]"} {
		s := runFile(t, spec{faults: faults, duration: "1s"}, "--context", "restricted")
		s.exits(0)
	}
	for _, check := range examined(t, 0, as("-n", "shop")...).Checks {
		if check.Status != "ok" && !hasGap(check.Check) {
			t.Errorf("check %+v", check)
		}
	}

	killed(t, spec{faults: "[{blackhole: {mode: reject}}]"})
	if seen := live(t, "--context", "restricted"); len(seen.Runs) != 1 || len(seen.Runs[0].Objects) != 3 || seen.Runs[0].Faults[0].Orphaned {
		t.Errorf("status %+v", seen)
	}
	asked(t, 0, as("rollback", "--all")...)
	asked(t, 0, as("rollback", "--release")...)
	clean(t)
}

// People on call for one namespace need no permission in any other to end the faults in
// it. They are notified that they cannot see faults on its calls in other namespaces.
func TestPermissionsInOneNamespaceSufficeToEndItsFaults(t *testing.T) {
	documented(t)
	bind(t, "ClusterRole", "squall-faults", "shop")
	user := restricted(t)
	eventually(t, func() error { return permits(t, user, access{"shop", "batch", "jobs", "list"}, true) })
	killed(t, spec{})
	if seen := live(t, "--context", "restricted", "-n", "shop"); len(seen.Runs) != 1 {
		t.Errorf("status %+v", seen)
	}
	code, _, stderr := ask(t, as("status")...)
	if code != 3 || !strings.Contains(stderr, "list virtualservices.networking.istio.io in the whole cluster") || !strings.Contains(stderr, "hint: use -n NAMESPACE") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	code, _, stderr = ask(t, as("rollback", "--all", "-n", "shop")...)
	if code != 5 || !strings.Contains(stderr, "other namespaces may have faults on the calls from it") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	asked(t, 0, as("rollback", "--release", "-n", "shop")...)
	clean(t)
}

// Each documented permission is needed, and a refusal names a missing one before
// anything is created.
func TestEachMissingPermissionIsNamed(t *testing.T) {
	bindAll(t)
	user := restricted(t)
	const istio = "networking.istio.io"
	abort, blackhole := spec{}.write(t), spec{faults: "[{blackhole: {mode: reject}}]"}.write(t)
	reader, faults, both := []string{"squall-reader"}, []string{"squall-faults"}, []string{"squall-reader", "squall-faults"}
	for _, test := range []struct {
		access access
		roles  []string
		// file is planned, if there is one, and plan is what that says; doctor
		// is what squall doctor says.
		file, plan, doctor string
	}{
		{access{"", istio, "virtualservices", "list"}, reader, abort, "no permission to list virtualservices", "failure in the whole cluster: not permitted: list virtualservices.networking.istio.io"},
		{access{"", istio, "virtualservices", "get"}, reader, abort, "not permitted in namespace shop: get virtualservices.networking.istio.io in the whole cluster", "failure in the whole cluster: not permitted: get virtualservices.networking.istio.io"},
		{access{"", istio, "virtualservices", "watch"}, reader, abort, "not permitted in namespace shop: watch virtualservices.networking.istio.io in the whole cluster", "failure in the whole cluster: not permitted: watch virtualservices.networking.istio.io"},
		{access{"", istio, "serviceentries", "list"}, reader, abort, "no permission to list serviceentries", "failure in the whole cluster: not permitted: list serviceentries.networking.istio.io"},
		{access{"", istio, "destinationrules", "list"}, reader, "", "", "warning in the whole cluster: not permitted: list destinationrules.networking.istio.io; blackholes do not have the connect timeouts and limits of their targets"},
		{access{"", istio, "sidecars", "list"}, reader, abort, "no permission to list sidecars", "failure in the whole cluster: not permitted: list sidecars.networking.istio.io"},
		{access{"", istio, "gateways", "list"}, reader, "", "", "warning in the whole cluster: not permitted: list gateways.networking.istio.io; gateways among the callers, which a fault does not reach, are not found"},
		{access{"", "", "services", "list"}, reader, abort, "services is forbidden", "failure in the whole cluster: not permitted: list services"},
		{access{"", "", "namespaces", "list"}, reader, abort, "no permission to list namespaces", "failure in the whole cluster: not permitted: list namespaces"},
		{access{"", "coordination.k8s.io", "leases", "get"}, reader, abort, "not permitted in namespace shop: get leases.coordination.k8s.io in the whole cluster", "failure in the whole cluster: not permitted: get leases.coordination.k8s.io squall-hold"},
		{access{"shop", istio, "virtualservices", "create"}, faults, abort, "not permitted in namespace shop: create virtualservices.networking.istio.io", "failure in namespace shop: not permitted: create virtualservices.networking.istio.io"},
		{access{"shop", istio, "virtualservices", "get"}, both, abort, "not permitted in namespace shop: get virtualservices.networking.istio.io, get", "failure in namespace shop: not permitted: get virtualservices.networking.istio.io"},
		{access{"shop", istio, "virtualservices", "watch"}, both, abort, "not permitted in namespace shop: watch virtualservices.networking.istio.io, watch", "failure in namespace shop: not permitted: watch virtualservices.networking.istio.io"},
		{access{"shop", istio, "virtualservices", "patch"}, faults, abort, "not permitted in namespace shop: patch virtualservices.networking.istio.io", "failure in namespace shop: not permitted: patch virtualservices.networking.istio.io"},
		{access{"shop", istio, "virtualservices", "delete"}, faults, abort, "not permitted in namespace shop: delete virtualservices.networking.istio.io", "failure in namespace shop: not permitted: delete virtualservices.networking.istio.io"},
		{access{"shop", istio, "serviceentries", "create"}, faults, blackhole, "not permitted in namespace shop: create serviceentries.networking.istio.io", "warning in namespace shop: not permitted: create serviceentries.networking.istio.io; blackholes are refused"},
		{access{"shop", istio, "serviceentries", "get"}, faults, blackhole, "not permitted in namespace shop: get serviceentries.networking.istio.io", "warning in namespace shop: not permitted: get serviceentries.networking.istio.io; blackholes are refused"},
		{access{"shop", istio, "serviceentries", "watch"}, faults, blackhole, "not permitted in namespace shop: watch serviceentries.networking.istio.io", "warning in namespace shop: not permitted: watch serviceentries.networking.istio.io; blackholes are refused"},
		{access{"shop", istio, "serviceentries", "delete"}, faults, blackhole, "not permitted in namespace shop: delete serviceentries.networking.istio.io", "warning in namespace shop: not permitted: delete serviceentries.networking.istio.io; blackholes are refused"},
		{access{"shop", istio, "destinationrules", "create"}, faults, "", "", "warning in namespace shop: not permitted: create destinationrules.networking.istio.io; blackholes of targets with a DestinationRule are refused"},
		{access{"shop", istio, "destinationrules", "get"}, faults, "", "", "warning in namespace shop: not permitted: get destinationrules.networking.istio.io; blackholes of targets with a DestinationRule are refused"},
		{access{"shop", istio, "destinationrules", "watch"}, faults, "", "", "warning in namespace shop: not permitted: watch destinationrules.networking.istio.io; blackholes of targets with a DestinationRule are refused"},
		{access{"shop", istio, "destinationrules", "delete"}, faults, "", "", "warning in namespace shop: not permitted: delete destinationrules.networking.istio.io; blackholes of targets with a DestinationRule are refused"},
		{access{"shop", "batch", "jobs", "create"}, faults, abort, "not permitted in namespace shop: create jobs.batch", "failure in namespace shop: not permitted: create jobs.batch"},
		{access{"shop", "batch", "jobs", "get"}, faults, abort, "not permitted in namespace shop: get jobs.batch", "failure in namespace shop: not permitted: get jobs.batch"},
		{access{"shop", "batch", "jobs", "watch"}, faults, abort, "not permitted in namespace shop: watch jobs.batch", "failure in namespace shop: not permitted: watch jobs.batch"},
		{access{"shop", "batch", "jobs", "patch"}, faults, abort, "not permitted in namespace shop: patch jobs.batch", "failure in namespace shop: not permitted: patch jobs.batch"},
		{access{"shop", "batch", "jobs", "delete"}, faults, abort, "not permitted in namespace shop: delete jobs.batch", "failure in namespace shop: not permitted: delete jobs.batch"},
		{access{"shop", "batch", "jobs", "list"}, faults, abort, "not permitted in namespace shop: list jobs.batch", "failure in namespace shop: not permitted: list jobs.batch"},
		{access{"istio-system", "", "configmaps", "get"}, []string{"squall-istio"}, "", "", "warning in namespace istio-system: not permitted: get configmaps istio; Istio's defaults are assumed"},
	} {
		t.Run(test.access.namespace+" "+test.access.verb+" "+test.access.resource, func(t *testing.T) {
			without(t, user, test.access, test.roles, func() {
				if test.file != "" {
					if code, stdout, stderr := ask(t, as("plan", test.file)...); code != 3 || !strings.Contains(stdout+stderr, test.plan) {
						t.Errorf("plan: exit code %d: %s%s", code, stdout, stderr)
					}
				}
				wantFound(t, test.doctor)
			})
		})
	}
	// A run refuses as its plan does.
	for _, a := range []access{{"shop", istio, "virtualservices", "delete"}, {"shop", "batch", "jobs", "patch"}} {
		without(t, user, a, faults, func() {
			created := creations(t)
			s := start(t, as("run", abort)...)
			s.exits(3)
			if want := fmt.Sprintf("not permitted in namespace shop: %s %s.%s", a.verb, a.resource, a.group); !strings.Contains(s.stdout.String(), want) {
				t.Errorf("the summary does not say %q", want)
			}
			if added := created(); len(added) > 0 {
				t.Errorf("created: %v", added)
			}
		})
	}
	// The missing permission to list Jobs is named, and the fault is ended.
	without(t, user, access{"shop", "batch", "jobs", "list"}, faults, func() {
		run := runFile(t, spec{})
		run.says("observe")
		inForce(t, reviews, ratings, true)
		run.signal(syscall.SIGKILL)
		<-run.done
		code, _, stderr := ask(t, as("rollback", "--all", "--hold", "0")...)
		if code != 5 || !strings.Contains(stderr, "list jobs.batch in namespace shop") {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		inForce(t, reviews, ratings, false)
	})
}

// wantFound fails the test unless squall doctor reports exactly this about the missing
// permissions, with the rule that grants them. want has the status and the detail.
func wantFound(t *testing.T, want string) {
	t.Helper()
	code := 3
	if strings.HasPrefix(want, "warning") {
		code = 0
	}
	found := false
	for _, check := range examined(t, code, as("-n", "shop", "--no-heartbeat")...).Checks {
		if check.Check != "permissions" || check.Status == "ok" {
			continue
		}
		found = found || check.Status+" "+check.Detail == want && matches(t, `^add to a (Role in namespace \S+|ClusterRole): - \{apiGroups: .*\}$`, check.Hint)
	}
	if !found {
		t.Errorf("doctor does not say %q", want)
	}
}
