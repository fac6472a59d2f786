package manifests_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/manifests"
)

// write creates a directory of files from alternating names and contents.
func write(t *testing.T, files ...string) (directory string) {
	t.Helper()
	directory = t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(directory, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

func read(t *testing.T, files ...string) config.Snapshot {
	t.Helper()
	s, err := manifests.Read([]string{write(t, files...)}, manifests.Options{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	return s.Snapshot
}

func names(objects []*unstructured.Unstructured) string {
	var all []string
	for _, o := range objects {
		all = append(all, o.GetNamespace()+"/"+o.GetName())
	}
	return strings.Join(all, " ")
}

const everything = `
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: b, namespace: prod}
spec: {hosts: [b], http: [{route: [{destination: {host: b}, weight: 100}], timeout: 0.5s}]}
---
# nothing here
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: egress}
spec: {hosts: [api.example.com]}
---
apiVersion: networking.istio.io/v1alpha3
kind: Sidecar
metadata: {name: narrow, namespace: shop}
spec: {egress: [{hosts: [./*]}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: prod, labels: {app: b}, annotations: {networking.istio.io/exportTo: "prod, shop"}}
spec: {ports: [{port: 80, name: http, protocol: TCP, appProtocol: grpc}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: prod}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: GRPCRoute
metadata: {name: rpc, namespace: prod}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultVirtualServiceExportTo: ["."]
    rootNamespace: istio-config
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: job, namespace: batch}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: lost}
spec: {hosts: [lost]}
`

func TestReadEveryKind(t *testing.T) {
	s := read(t, "all.yaml", everything)
	if s.APIVersion != "networking.istio.io/v1" || s.ClusterDomain != "cluster.local" || s.RootNamespace != "istio-config" {
		t.Errorf("%s, %s, %s", s.APIVersion, s.ClusterDomain, s.RootNamespace)
	}
	for what, pair := range map[string][2]string{
		"VirtualServices": {names(s.VirtualServices), "prod/b default/lost"},
		"ServiceEntries":  {names(s.ServiceEntries), "egress/api"},
		"Sidecars":        {names(s.Sidecars), "shop/narrow"},
		"Routes":          {names(s.Routes), "prod/web prod/rpc"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s instead of %s", what, pair[0], pair[1])
		}
	}
	if diff := cmp.Diff([]config.Service{{Namespace: "prod", Name: "b", Labels: map[string]string{"app": "b"}, ExportTo: []string{"prod", "shop"}, Ports: []config.Port{{Number: 80, Name: "http", Declared: "TCP", AppProtocol: "grpc", OfService: true}}}}, s.Services); diff != "" {
		t.Error(diff)
	}
	namespaces := map[string]map[string]string{
		"prod": {}, "egress": {}, "istio-system": {}, "batch": {}, "default": {},
		"shop": {"istio-injection": "enabled", "kubernetes.io/metadata.name": "shop"},
	}
	if diff := cmp.Diff(namespaces, s.Namespaces); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"."}, s.DefaultExportTo); diff != "" {
		t.Error(diff)
	}
	spec := map[string]any{
		"hosts": []any{"b"},
		"http":  []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": "b"}, "weight": int64(100)}}, "timeout": "0.5s"}},
	}
	if diff := cmp.Diff(spec, s.VirtualServices[0].Object["spec"]); diff != "" {
		t.Error(diff)
	}
}

// Manifests describe control planes: their MeshConfigs, Deployments and tags. Other objects
// of these kinds are ignored.
func TestControlPlanes(t *testing.T) {
	const mesh = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-b, namespace: mesh}
data: {mesh: "rootNamespace: roots"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: shop}
data: {notes: "no MeshConfig"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod-b, namespace: mesh, labels: {app: istiod, istio.io/rev: b}}
spec: {template: {spec: {containers: [{name: discovery, image: "pilot:1.30.2", args: [--domain, corp.internal]}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews, namespace: shop}
spec: {template: {metadata: {labels: {app: reviews}}, spec: {containers: [{name: reviews, image: "reviews:1", args: [--domain, example.com]}]}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: tag, labels: {istio.io/tag: stable, istio.io/rev: b}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/rev: stable}}
`
	s := read(t, "mesh.yaml", mesh)
	seen, err := s.For("shop", nil)
	if err != nil || seen.Plane.Name() != "b in mesh" || seen.Plane.Version != "1.30.2" || seen.RootNamespace != "roots" || seen.ClusterDomain != "corp.internal" || len(s.ControlPlanes) != 1 {
		t.Errorf("%+v, %v", seen.Plane, err)
	}
	told, err := manifests.Read([]string{write(t, "mesh.yaml", mesh)}, manifests.Options{Overrides: config.Overrides{Namespace: "other", ClusterDomain: "example.com"}})
	if err != nil || told.ControlPlanes[0].Name() != "default in other" || told.ClusterDomain != "example.com" {
		t.Errorf("%+v, %v", told.ControlPlanes, err)
	}
}

const vs = `{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": %q, "namespace": "prod"}, "spec": {"hosts": ["a"]}}`

func TestListsFilesAndDirectories(t *testing.T) {
	item := func(name string) string { return fmt.Sprintf(vs, name) }
	s := read(t,
		"a.json", `{"apiVersion": "v1", "kind": "List", "items": [`+item("one")+`, {"kind": "VirtualServiceList", "items": [`+item("two")+`]}]}`,
		"b.json", "\t"+item("three")+"\n"+item("four"),
		"c/d/e.yml", "apiVersion: v1\nitems:\n- "+item("five")+"\n- "+item("six")+"\nkind: List\n",
		"c/notes.txt", "{{ no manifest",
		".git/config.yaml", "{{ no manifest",
		".hidden.yaml", "{{ no manifest",
	)
	if got, want := names(s.VirtualServices), "prod/one prod/two prod/three prod/four prod/five prod/six"; got != want {
		t.Errorf("%s instead of %s", got, want)
	}
}

// A list in the format of kubectl is read item by item; a similar list is read as
// ordinary YAML.
func TestPrintedLists(t *testing.T) {
	printed := func(name string) string {
		return "- apiVersion: networking.istio.io/v1\n  kind: VirtualService\n  metadata:\n    annotations:\n      note: |\n        - one\n\n        - two\n    name: " + name + "\n    namespace: prod\n"
	}
	const head, tail = "apiVersion: v1\nitems:\n", "kind: List\nmetadata:\n  resourceVersion: \"\"\n"
	for name, test := range map[string]struct{ content, want string }{
		"printed":              {head + printed("one") + printed("two") + tail, "prod/one prod/two"},
		"two documents":        {head + printed("one") + tail + "---\n" + head + printed("two") + tail, "prod/one prod/two"},
		"empty":                {"apiVersion: v1\nitems: []\n" + tail, ""},
		"aliases across items": {head + strings.Replace(printed("one"), "prod", "&p prod", 1) + strings.Replace(printed("two"), "prod", "*p", 1) + tail, "prod/one prod/two"},
		"no tail":              {strings.TrimSuffix("kind: List\n"+head+printed("one"), "\n"), "prod/one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := read(t, "list.yaml", test.content)
			if got := names(s.VirtualServices); got != test.want {
				t.Errorf("%q instead of %q", got, test.want)
			}
		})
	}
	_, err := manifests.Read([]string{write(t, "list.yaml", head+printed("one")+printed("Two")+tail)}, manifests.Options{Strict: true})
	if err == nil || !strings.Contains(err.Error(), "list.yaml:13:3: metadata.name") {
		t.Errorf("%v", err)
	}
}

func TestAFileInPlaceOfADirectory(t *testing.T) {
	directory := write(t, "mesh.out", fmt.Sprintf(vs, "one"))
	s, err := manifests.Read([]string{filepath.Join(directory, "mesh.out")}, manifests.Options{Strict: true})
	if err != nil || names(s.VirtualServices) != "prod/one" {
		t.Errorf("%s: %v", names(s.VirtualServices), err)
	}
}

// The links of a mounted ConfigMap are followed.
func TestLinks(t *testing.T) {
	directory := write(t, "..2026/a.yaml", fmt.Sprintf(vs, "one"))
	for link, to := range map[string]string{"..data": "..2026", "a.yaml": "..data/a.yaml"} {
		if err := os.Symlink(to, filepath.Join(directory, link)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := manifests.Read([]string{directory}, manifests.Options{Strict: true})
	if err != nil || names(s.VirtualServices) != "prod/one" {
		t.Errorf("%s: %v", names(s.VirtualServices), err)
	}
}

func TestAliasesAndMerges(t *testing.T) {
	s := read(t, "a.yaml", `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: &name a, namespace: prod}
spec:
  hosts: [*name]
  http:
  - &first {route: [{destination: {host: a}}], timeout: 5s}
  - <<: *first
    timeout: 1s
  - <<: [{timeout: 2s}, *first]
`)
	route := []any{map[string]any{"destination": map[string]any{"host": "a"}}}
	want := map[string]any{"hosts": []any{"a"}, "http": []any{
		map[string]any{"route": route, "timeout": "5s"},
		map[string]any{"route": route, "timeout": "1s"},
		map[string]any{"route": route, "timeout": "2s"},
	}}
	if diff := cmp.Diff(want, s.VirtualServices[0].Object["spec"]); diff != "" {
		t.Error(diff)
	}
}

func TestProblems(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"syntax.yaml", "a: b\n---\na: [b\nc: d\n", "syntax.yaml:2:1: is not YAML, here or in the lines below: did not find"},
		{"template.yaml", "{{ if .Values.x }}\na: b\n", "template.yaml:1:1: is not YAML, here or in the lines below: "},
		{"syntax.json", "{\n  \"a\": b\n}", "syntax.json:2:8: is not JSON: invalid character 'b'"},
		{"cut.json", "{\n  \"a\":", "cut.json:2:7: is not JSON: unexpected EOF"},
		{"array.json", "[]", "array.json:1:1: is not JSON: "},
		{"none.yaml", "a: b\n", "none.yaml:1:1: is not a manifest of a Kubernetes object (an object needs apiVersion, kind and metadata)"},
		{"word.yaml", "---\n\nhello\n", "word.yaml:3:1: is not a manifest"},
		{"list.yaml", "apiVersion: v1\nkind: List\nitems:\n- 7\n", "list.yaml:4:3: is not a manifest"},
		{"noname.yaml", "apiVersion: v1\nkind: Service\nmetadata: {}\n", `noname.yaml:1:1: metadata.name "" of a Service is not a valid name: `},
		{"escape.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: \"\\e[31m\"}\n", `metadata.name "\x1b[31m" of a Service is not a valid name: `},
		{"namespace.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: A_B}\n", `metadata.namespace "A_B" of a Deployment is not a valid name: `},
		{"duplicate.yaml", "apiVersion: v1\nkind: Service\nkind: Service\n", `duplicate.yaml:3:1: duplicate key "kind"`},
		{"nan.yaml", "apiVersion: v1\nkind: Service\nmetadata: {x: .nan}\n", `nan.yaml:3:15: ".nan" is not a number in JSON`},
		{"key.yaml", "[a]: b\n", "key.yaml:1:1: a key must be a string or a number"},
		{"merge.yaml", "<<: 7\n", "merge.yaml:1:1: << merges mappings only"},
		{"config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: words}\n", "config.yaml:1:1: ConfigMap istio-system/istio does not hold a MeshConfig: "},
		{"twice.yaml", strings.Join([]string{fmt.Sprintf(vs, "a"), fmt.Sprintf(vs, "a"), strings.Replace(fmt.Sprintf(vs, "a"), `["a"]`, `["b"]`, 1)}, "\n---\n"), "twice.yaml:5:1: VirtualService prod/a differs from the one of the same name at "},
		{"deep.yaml", strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "is nested more than 200 deep"},
		{"loop.yaml", "a: &a [*a]\n", "is nested more than 200 deep"},
		{"bomb.yaml", bomb(), "YAML aliases expand beyond the limit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := manifests.Read([]string{write(t, test.name, test.content)}, manifests.Options{Strict: true})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v instead of %q", err, test.want)
			}
		})
	}
}

// bomb is a file of nested aliases: each of ten lists refers ten times to the one
// before.
func bomb() string {
	lines := []string{"l0: &l0 [" + strings.Repeat("lol,", 10) + "lol]"}
	for i := range 9 {
		lines = append(lines, fmt.Sprintf("l%d: &l%d [%s*l%d]", i+1, i+1, strings.Repeat(fmt.Sprintf("*l%d, ", i), 9), i))
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, err := manifests.Read([]string{write(t, "a.yaml", "a: [", "b.json", "{", "c.yaml", fmt.Sprintf(vs, "fine")+"\n---\na: b\n---\nc: d\n")}, manifests.Options{Strict: true})
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("%v", err)
	}
}

func TestNothingToRead(t *testing.T) {
	for want, root := range map[string]string{
		"is a directory without any .yaml, .yml or .json file": write(t, "notes.txt", "none"),
		"cannot be read: ": filepath.Join(t.TempDir(), "nowhere"),
	} {
		if _, err := manifests.Read([]string{root}, manifests.Options{Strict: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v instead of %q", err, want)
		}
	}
}

// A directory of a repository has more than manifests.
func TestRepository(t *testing.T) {
	directory := write(t,
		"mesh.yaml", fmt.Sprintf(vs, "one"),
		"kustomization.yaml", "resources: [mesh.yaml]\npatches:\n- path: patch.yaml\n- patch: '[]'\npatchesStrategicMerge: [sub/merge.yaml]\npatchesJson6902: [{path: json.yaml}]\n",
		"patch.yaml", strings.Replace(fmt.Sprintf(vs, "one"), `["a"]`, `["b"]`, 1),
		"sub/merge.yaml", strings.Replace(fmt.Sprintf(vs, "one"), `["a"]`, `["c"]`, 1),
		"json.yaml", "- {op: add, path: /spec/hosts/0, value: b}\n",
		"chart/Chart.yaml", "apiVersion: v2\nname: a\n",
		"chart/values.yaml", "replicas: 2\n",
		"chart/templates/a.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: {{ .Release.Name }}}\n",
		"package.json", `{"name": "a"}`,
		"broken.json", `{"name": `,
	)
	mesh, err := manifests.Read([]string{directory}, manifests.Options{})
	if err != nil || names(mesh.VirtualServices) != "prod/one" || mesh.VirtualServices[0].Object["spec"].(map[string]any)["hosts"].([]any)[0] != "a" {
		t.Fatalf("%s: %v", names(mesh.VirtualServices), err)
	}
	var skipped []string
	for _, p := range mesh.Skipped {
		file, err := filepath.Rel(directory, p.File)
		if err != nil {
			t.Fatal(err)
		}
		skipped = append(skipped, file)
	}
	want := []string{"broken.json", "chart/Chart.yaml", "chart/templates/a.yaml", "chart/values.yaml", "json.yaml", "kustomization.yaml", "package.json", "patch.yaml", "sub/merge.yaml"}
	if diff := cmp.Diff(want, skipped); diff != "" {
		t.Error(diff)
	}
	if _, err := manifests.Read([]string{directory}, manifests.Options{Strict: true}); err == nil || strings.Count(err.Error(), "\n") != 5 {
		t.Errorf("%v", err)
	}
}

// A manifest with a syntax error is not skipped, because the mesh would lack it.
func TestBrokenManifestIsNotSkipped(t *testing.T) {
	for _, file := range []string{"a.yaml", "a.json"} {
		_, err := manifests.Read([]string{write(t, "b.yaml", fmt.Sprintf(vs, "b"), file, `{"apiVersion": "v1", "kind": [`)}, manifests.Options{})
		if err == nil || !strings.Contains(err.Error(), file+":1:") {
			t.Errorf("%v", err)
		}
	}
}

func TestALaterRootReplaces(t *testing.T) {
	base := write(t, "a.yaml", fmt.Sprintf(vs, "one")+"\n---\n"+fmt.Sprintf(vs, "two"))
	overlay := write(t, "a.yaml", strings.Replace(fmt.Sprintf(vs, "one"), `["a"]`, `["b"]`, 1))
	mesh, err := manifests.Read([]string{base, overlay}, manifests.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if hosts := mesh.VirtualServices[0].Object["spec"].(map[string]any)["hosts"].([]any)[0]; names(mesh.VirtualServices) != "prod/one prod/two" || hosts != "b" {
		t.Errorf("%s %s", names(mesh.VirtualServices), hosts)
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("VirtualService prod/one of %s/a.yaml by the one of %s/a.yaml", base, overlay)}, mesh.Replaced); diff != "" {
		t.Error(diff)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(bomb()))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, name := range []string{"a.yaml", "a.json"} {
			_, _ = manifests.Read([]string{write(t, name, string(content))}, manifests.Options{Strict: true})
		}
	})
}

// BenchmarkRead reads the output of kubectl for a large mesh.
func BenchmarkRead(b *testing.B) {
	var list strings.Builder
	list.WriteString("apiVersion: v1\nitems:\n")
	for i := range 10_000 {
		fmt.Fprintf(&list, `- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata:
    creationTimestamp: "2026-01-01T00:00:00Z"
    name: service-%[1]d
    namespace: team-%[2]d
  spec:
    hosts:
    - service-%[1]d
    http:
    - match:
      - headers:
          end-user:
            exact: jason
      route:
      - destination:
          host: service-%[1]d
          subset: v2
    - route:
      - destination:
          host: service-%[1]d
          subset: v1
      timeout: 5s
`, i, i%100)
	}
	list.WriteString("kind: List\n")
	name := filepath.Join(b.TempDir(), "mesh.yaml")
	if err := os.WriteFile(name, []byte(list.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if s, err := manifests.Read([]string{name}, manifests.Options{Strict: true}); err != nil || len(s.VirtualServices) != 10_000 {
			b.Fatal(len(s.VirtualServices), err)
		}
	}
}
