package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

const squall = "../../deploy/helm/squall"

// object is a rendered object before decoding.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	raw      []byte
}

func (o object) String() string {
	return fmt.Sprintf("%s %s/%s", o.Kind, o.Metadata.Namespace, o.Metadata.Name)
}

// as decodes an object strictly.
func as[T any](t *testing.T, o object) (decoded T) {
	t.Helper()
	if err := sigsyaml.UnmarshalStrict(o.raw, &decoded); err != nil {
		t.Fatalf("%s: %v", o, err)
	}
	return decoded
}

// documents splits and decodes manifests.
func documents(t *testing.T, manifests string) (found []object) {
	t.Helper()
	reader := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(manifests)))
	defer reader.Close() //nolint:errcheck // closes nothing
	buffer := make([]byte, 1<<20)
	for {
		n, err := reader.Read(buffer)
		if errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		o := object{raw: slices.Clone(buffer[:n])}
		if err := sigsyaml.Unmarshal(o.raw, &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind != "" {
			found = append(found, o)
		}
	}
}

// render renders the chart with files of values, in namespace chaos.
func render(t *testing.T, values ...string) []object {
	t.Helper()
	var out strings.Builder
	if err := run(append([]string{"-n", "chaos", squall}, values...), &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	return documents(t, out.String())
}

// write writes a file of values.
func write(t *testing.T, values string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// only returns the one object of a kind.
func only(t *testing.T, objects []object, kind string) object {
	t.Helper()
	i := slices.IndexFunc(objects, func(o object) bool { return o.Kind == kind })
	if i < 0 {
		t.Fatalf("no %s in %v", kind, objects)
	}
	return objects[i]
}

func ci(name string) string { return filepath.Join(squall, "ci", name+"-values.yaml") }

// grants returns the rules that are bound to the chart's ServiceAccount, by
// namespace. The namespace of rules for the whole cluster is "*".
func grants(t *testing.T, objects []object) map[string][]rbacv1.PolicyRule {
	t.Helper()
	rules := map[string][]rbacv1.PolicyRule{}
	for _, o := range objects {
		switch o.Kind {
		case "ClusterRole":
			rules["ClusterRole "+o.Metadata.Name] = as[rbacv1.ClusterRole](t, o).Rules
		case "Role":
			rules["Role "+o.Metadata.Name+" in "+o.Metadata.Namespace] = as[rbacv1.Role](t, o).Rules
		}
	}
	granted, unbound := map[string][]rbacv1.PolicyRule{}, maps.Clone(rules)
	bind := func(namespace, name string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		role := ref.Kind + " " + ref.Name
		if ref.Kind == "Role" {
			role += " in " + namespace
		}
		account := only(t, objects, "ServiceAccount").Metadata
		want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}}
		if diff := cmp.Diff(want, subjects); diff != "" || rules[role] == nil {
			t.Errorf("binding %s of %s: %s", name, role, diff)
		}
		granted[namespace] = append(granted[namespace], rules[role]...)
		delete(unbound, role)
	}
	for _, o := range objects {
		switch o.Kind {
		case "ClusterRoleBinding":
			b := as[rbacv1.ClusterRoleBinding](t, o)
			bind("*", b.Name, b.RoleRef, b.Subjects)
		case "RoleBinding":
			b := as[rbacv1.RoleBinding](t, o)
			bind(b.Namespace, b.Name, b.RoleRef, b.Subjects)
		}
	}
	if len(unbound) > 0 {
		t.Errorf("bound to nobody: %v", unbound)
	}
	return granted
}

// The chart grants the permissions of deploy/rbac.yaml, and in addition only the
// permissions that squall serve needs.
func TestChartGrantsTheDocumentedRoles(t *testing.T) {
	content, err := os.ReadFile("../../deploy/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string][]rbacv1.PolicyRule{}
	for _, o := range documents(t, string(content)) {
		roles[o.Metadata.Name] = as[rbacv1.Role](t, o).Rules // a ClusterRole has the same fields
	}
	events := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create"}}
	writing := append(slices.Clone(roles["squall-faults"]), events)
	leases := func(name string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{
			{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"create"}},
			{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{name, name + "-starts"}, Verbs: []string{"get", "update"}},
		}
	}
	for _, test := range []struct {
		name    string
		values  []string
		writing []string
		lease   string
	}{
		{"the release's namespace", nil, []string{"chaos"}, "squall"},
		{"a home", []string{write(t, "homeNamespace: faults")}, []string{"faults"}, "squall"},
		{"listed namespaces", []string{ci("listed")}, []string{"shop", "prod"}, "squall"},
		{"both", []string{ci("everything")}, []string{"shop", "faults"}, "gamedays"},
		{"the same twice", []string{write(t, "{homeNamespace: shop, namespaces: [shop]}")}, []string{"shop"}, "squall"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := map[string][]rbacv1.PolicyRule{"*": roles["squall-reader"], "istio-system": roles["squall-istio"]}
			for _, namespace := range test.writing {
				want[namespace] = slices.Clone(writing)
			}
			want["chaos"] = append(want["chaos"], leases(test.lease)...)
			if diff := cmp.Diff(want, grants(t, render(t, test.values...))); diff != "" {
				t.Error(diff)
			}
		})
	}
	if len(roles) != 4 { // with squall-hold, which the chart does not grant
		t.Errorf("deploy/rbac.yaml has roles that this test does not know: %v", slices.Collect(maps.Keys(roles)))
	}
}

func TestNothingIsGrantedWithoutRBAC(t *testing.T) {
	for _, o := range render(t, write(t, "{rbac: {create: false}, serviceAccount: {create: false, name: given}}")) {
		if strings.Contains(o.Kind, "Role") || o.Kind == "ServiceAccount" {
			t.Errorf("rendered: %s", o)
		}
		if o.Kind == "Deployment" && as[appsv1.Deployment](t, o).Spec.Template.Spec.ServiceAccountName != "given" {
			t.Error("the Deployment does not use the account that is given")
		}
	}
}

func TestArgumentsOfServe(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []string
		want   []string
	}{
		{"defaults", nil, []string{
			"serve", "/etc/squall/experiments", "--listen=:8080",
			"--allowed-host=squall", "--allowed-host=squall.chaos", "--allowed-host=squall.chaos.svc", "--allowed-host=squall.chaos.svc.cluster.local",
			"--out=/var/lib/squall", "--keep-runs=1000", "--keep-for=2160h",
			"--max-concurrent=4", "--max-per-namespace=1", "--max-percentage=100", "--max-duration=1h", "--home-namespace=chaos",
			"--leader-elect", "--lease-namespace=chaos", "--lease-name=squall", "--heartbeat=on", "--log-format=json",
		}},
		{"everything", []string{ci("everything")}, []string{
			"serve", "/etc/squall/experiments", "--listen=:8080",
			"--allowed-host=gamedays", "--allowed-host=gamedays.chaos", "--allowed-host=gamedays.chaos.svc", "--allowed-host=gamedays.chaos.svc.corp.example", "--allowed-host=chaos.example.com",
			"--out=/var/lib/squall", "--keep-runs=2000000", "--keep-for=720h",
			"--max-concurrent=2", "--max-per-namespace=0", "--max-percentage=12.5", "--max-duration=1h30m",
			"--protected=*.payments.svc.cluster.local", "--protected=auth.*", "--home-namespace=faults",
			"--leader-elect", "--lease-namespace=chaos", "--lease-name=gamedays", "--heartbeat=off", "--heartbeat-image=registry.example.com/pause:1",
			"--blackhole-address=198.51.100.1", "--grafana=https://grafana.example.com",
			"--prometheus-http-config=/etc/squall/prometheus/config.yaml", "--api-token-file=/etc/squall/token/token",
			"--notify-file=/etc/squall/notify/list", "--grafana-token-file=/etc/squall/grafana/token", "--log-format=text", "-v",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := as[appsv1.Deployment](t, only(t, render(t, test.values...), "Deployment")).Spec.Template.Spec
			if diff := cmp.Diff(test.want, pod.Containers[0].Args); diff != "" {
				t.Error(diff)
			}
			mounted := map[string]string{}
			for _, mount := range pod.Containers[0].VolumeMounts {
				mounted[mount.Name] = mount.MountPath
			}
			for _, volume := range pod.Volumes {
				if mounted[volume.Name] == "" {
					t.Errorf("volume %s is not mounted", volume.Name)
				}
				delete(mounted, volume.Name)
			}
			if len(mounted) > 0 {
				t.Errorf("mounts without a volume: %v", mounted)
			}
		})
	}
	for _, arg := range as[appsv1.Deployment](t, only(t, render(t, ci("listed")), "Deployment")).Spec.Template.Spec.Containers[0].Args {
		if strings.HasPrefix(arg, "--home-namespace") {
			t.Errorf("%s with listed namespaces only", arg)
		}
	}
}

func TestReplicas(t *testing.T) {
	for values, want := range map[string]bool{"replicas: 2": true, "replicas: 1": false, "podDisruptionBudget: {enabled: false}": false} {
		got := slices.ContainsFunc(render(t, write(t, values)), func(o object) bool { return o.Kind == "PodDisruptionBudget" })
		if got != want {
			t.Errorf("%s: a PodDisruptionBudget: %v", values, got)
		}
	}
}

// A rule without peers allows everyone. An empty list in the values must not
// become such a rule: then only the replicas reach each other.
func TestNetworkPolicyOfNobodyLetsNobodyIn(t *testing.T) {
	replicas := func(policy networkingv1.NetworkPolicy, peers []networkingv1.NetworkPolicyPeer) bool {
		return len(peers) > 0 && peers[0].NamespaceSelector == nil && peers[0].IPBlock == nil && peers[0].PodSelector != nil &&
			reflect.DeepEqual(*peers[0].PodSelector, policy.Spec.PodSelector)
	}
	policy := as[networkingv1.NetworkPolicy](t, only(t, render(t, write(t, "networkPolicy: {enabled: true}")), "NetworkPolicy"))
	if in := policy.Spec.Ingress; len(in) != 1 || len(in[0].From) != 1 || len(in[0].Ports) != 1 || !replicas(policy, in[0].From) || !slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
		t.Errorf("lets in %v", in)
	}
	policy = as[networkingv1.NetworkPolicy](t, only(t, render(t, ci("everything")), "NetworkPolicy"))
	if in := policy.Spec.Ingress; len(in) != 1 || len(in[0].From) != 2 || len(in[0].Ports) != 1 || !replicas(policy, in[0].From) {
		t.Errorf("lets in %v", in)
	}
	if out := policy.Spec.Egress; len(out) != 5 || !replicas(policy, out[0].To) {
		t.Errorf("lets out %v", out)
	}
}

func TestServiceMonitorFindsTheService(t *testing.T) {
	objects := render(t, ci("everything"))
	monitor := as[monitoring.ServiceMonitor](t, only(t, objects, "ServiceMonitor"))
	service := as[corev1.Service](t, only(t, objects, "Service"))
	for key, value := range monitor.Spec.Selector.MatchLabels {
		if service.Labels[key] != value {
			t.Errorf("the Service has label %s: %q instead of %q", key, service.Labels[key], value)
		}
	}
	if len(monitor.Spec.Endpoints) != 1 || monitor.Spec.Endpoints[0].Port != service.Spec.Ports[0].Name || monitor.Spec.Endpoints[0].Interval != "1m30s" || monitor.Labels["release"] != "monitoring" {
		t.Errorf("ServiceMonitor %+v", monitor)
	}
}

// The rules equal deploy/prometheus/alerts.yaml, including their templates.
func TestPrometheusRuleHasTheAlerts(t *testing.T) {
	content, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want monitoring.PrometheusRuleSpec
	if err := sigsyaml.UnmarshalStrict(content, &want); err != nil {
		t.Fatal(err)
	}
	rule := as[monitoring.PrometheusRule](t, only(t, render(t, ci("everything")), "PrometheusRule"))
	if diff := cmp.Diff(want, rule.Spec); diff != "" || len(want.Groups) == 0 || rule.Labels["release"] != "monitoring" {
		t.Errorf("labels %v, %s", rule.Labels, diff)
	}
}

func TestRefusedValues(t *testing.T) {
	for values, want := range map[string]string{
		"{replica: 3}":                                     "additional properties 'replica' not allowed",
		"{image: {version: 1}}":                            "additional properties 'version' not allowed",
		"{image: {digest: abc}}":                           "does not match pattern",
		"{namespaces: [Shop]}":                             "does not match pattern",
		"{homeNamespace: '-'}":                             "does not match pattern",
		"{experiments: {a.txt: b}}":                        "a.txt",
		"{experiments: {a.yaml: 1}}":                       "got number, want string",
		"{replicas: 0}":                                    "minimum: got 0, want 1",
		"{prometheus: {url: prometheus:9090}}":             "does not match pattern",
		"{limits: {maxPercentage: 101}}":                   "maximum: got 101, want 100",
		"{limits: {maxDuration: 1 hour}}":                  "does not match pattern",
		"{terminationGracePeriodSeconds: 30}":              "minimum: got 30, want 75",
		"{heartbeat: {enabled: 'on'}}":                     "got string, want boolean",
		"{networkPolicy: {from: [{}]}}":                    "minProperties: got 0, want 1",
		"{networkPolicy: {from: [{podSelecter: {}}]}}":     "additional properties 'podSelecter' not allowed",
		"{experiments: {a.yaml: b}, existingConfigMap: c}": "experiments and existingConfigMap are both given",
		"{replicas: 2, leaderElection: {enabled: false}}":  "would each start every experiment",
	} {
		t.Run(values, func(t *testing.T) {
			err := run([]string{squall, write(t, values)}, t.Output(), t.Output())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v does not say %q", err, want)
			}
		})
	}
}

// A parent chart sets the values of this chart.
func TestGlobalValuesAreTaken(t *testing.T) {
	if len(render(t, write(t, "global: {region: eu}"))) == 0 {
		t.Error("nothing is rendered")
	}
}

func TestNotesSayWhatIsMissing(t *testing.T) {
	notes := func(values ...string) string {
		t.Helper()
		var out strings.Builder
		if err := run(append([]string{"-n", "chaos", "-notes", squall}, values...), &out, t.Output()); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	missing := []string{"There are no experiments yet", "The page and the API are read-only", "are deleted with the pods"}
	for _, text := range append(missing, "squall doctor -n chaos\n") {
		if !strings.Contains(notes(), text) {
			t.Errorf("the notes do not say %q", text)
		}
	}
	everything := notes(ci("everything"))
	for _, text := range missing {
		if strings.Contains(everything, text) {
			t.Errorf("the notes say %q", text)
		}
	}
	for _, text := range []string{"deployment/gamedays -- /squall doctor -n shop\n", "doctor -n faults\n", "8080:80\n"} {
		if !strings.Contains(everything, text) {
			t.Errorf("the notes do not say %q", text)
		}
	}
}

// schemaNode is the part of a JSON Schema that the tests use.
type schemaNode struct {
	Description          string
	Type                 any
	Ref                  string `json:"$ref"`
	AllOf                []schemaNode
	Properties           map[string]*schemaNode
	AdditionalProperties json.RawMessage
	Items                *schemaNode
	Definitions          map[string]*schemaNode
}

// anything lists the values whose fields are defined by Kubernetes, or free.
var anything = []string{"global", "affinity.nodeAffinity", "affinity.podAffinity", "affinity.podAntiAffinity"}

// loose returns the objects of a schema that accept unknown fields.
func (n *schemaNode) loose(path string) (found []string) {
	if n.Type == "object" && (n.AdditionalProperties == nil || n.Properties != nil && string(n.AdditionalProperties) != "false") {
		found = append(found, path)
	}
	for name, child := range n.Properties {
		found = append(found, child.loose(strings.TrimPrefix(path+"."+name, "."))...)
	}
	for name, child := range n.Definitions {
		found = append(found, child.loose("#"+name)...)
	}
	if n.Items != nil {
		found = append(found, n.Items.loose(path+"[]")...)
	}
	return found
}

func readSchema(t *testing.T) *schemaNode {
	t.Helper()
	content, err := os.ReadFile(squall + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	schema := &schemaNode{}
	if err := json.Unmarshal(content, schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestSchemaIsStrict(t *testing.T) {
	found := readSchema(t).loose("")
	slices.Sort(found)
	want := slices.Sorted(slices.Values(anything))
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
}

// leaves collects the values of the chart with their defaults. An empty map or
// list is a value too.
func leaves(schema *schemaNode, definitions map[string]*schemaNode, path string, value any, found map[string]any) {
	if len(schema.AllOf) == 1 {
		schema = definitions[strings.TrimPrefix(schema.AllOf[0].Ref, "#/definitions/")]
	}
	fields, isMap := value.(map[string]any)
	if !isMap || schema == nil || schema.Properties == nil || len(fields) == 0 {
		found[path] = value
		return
	}
	for name, field := range fields {
		leaves(schema.Properties[name], definitions, strings.TrimPrefix(path+"."+name, "."), field, found)
	}
}

// The README has a row for each value, with its default.
func TestREADMEHasEveryValue(t *testing.T) {
	content, err := os.ReadFile(squall + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := sigsyaml.Unmarshal(content, &values); err != nil {
		t.Fatal(err)
	}
	schema, defaults, want := readSchema(t), map[string]any{}, map[string]string{}
	leaves(schema, schema.Definitions, "", values, defaults)
	for path, value := range defaults {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		want[path] = string(encoded)
	}
	readme, err := os.ReadFile(squall + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]+)` \\| .+ \\|$").FindAllSubmatch(readme, -1) {
		got[string(row[1])] = string(row[2])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A package has no links: it contains their targets.
func TestPackageHoldsRulesAndAlerts(t *testing.T) {
	loaded, err := loader.Load(squall)
	if err != nil {
		t.Fatal(err)
	}
	file, err := chartutil.Save(loaded, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	packaged, err := loader.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range packaged.Files {
		got[f.Name] = string(f.Data)
	}
	for name, link := range map[string]string{"files/rbac.yaml": "../../deploy/rbac.yaml", "files/alerts.yaml": "../../deploy/prometheus/alerts.yaml"} {
		want, err := os.ReadFile(link)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The chart accepts the values in docs/install.md.
func TestDocumentedValues(t *testing.T) {
	content, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yml\n(.*?)```").FindAllSubmatch(content, -1)
	for _, block := range blocks {
		if arguments := as[appsv1.Deployment](t, only(t, render(t, write(t, string(block[1]))), "Deployment")).Spec.Template.Spec.Containers[0].Args; !slices.Contains(arguments, "--max-percentage=50") {
			t.Errorf("arguments %v", arguments)
		}
	}
	if len(blocks) != 1 {
		t.Errorf("%d blocks of values", len(blocks))
	}
}

func TestEveryTemplateIsRendered(t *testing.T) {
	var out strings.Builder
	if err := run([]string{squall, ci("everything")}, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	err := fs.WalkDir(os.DirFS(squall), "templates", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".yaml" && !strings.Contains(out.String(), "# Source: squall/"+path+"\n") {
			t.Errorf("ci/everything-values.yaml leaves out %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "missing argument: CHART"},
		{[]string{"no-such-chart"}, "no-such-chart"},
		{[]string{squall, "no-such-values"}, "values no-such-values"},
		{[]string{"-x"}, "flag provided but not defined"},
	} {
		if err := run(test.args, t.Output(), t.Output()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: error %v does not say %q", test.args, err, test.want)
		}
	}
}
