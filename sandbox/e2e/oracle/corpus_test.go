package oracle_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// The minimum size of the corpus; Istio's repository has this much at the version in
// go.mod.
const (
	leastDocuments = 80
	leastScenarios = 170
)

// corpusFolders hold manifests in Istio's repository.
var corpusFolders = []string{
	"samples", "pkg/config/analysis/analyzers/testdata", "pkg/test/datasets/validation", "pilot/pkg/xds/testdata", "tests/testdata", "tests/integration",
}

// document is a VirtualService of the corpus.
type document struct {
	object
	file string
	// siblings are the VirtualServices of the same file.
	siblings []object
}

// For every VirtualService in Istio's samples and tests, the plan takes effect and
// changes nothing else.
func TestCorpus(t *testing.T) {
	began := time.Now()
	skipped := map[string]int{}
	var scenarios []scenario
	used := 0
	for _, d := range readCorpus(t, skipped) {
		reason, made := d.scenarios(t, len(scenarios))
		if reason != "" {
			skipped[reason]++
			continue
		}
		used++
		scenarios = append(scenarios, made...)
	}
	trials := conduct(t, scenarios)
	tally(t, trials, began)
	throughEnvoy(t, trials)
	for reason, count := range sortedCounts(skipped) {
		t.Logf("%5d skipped: %s", count, reason)
	}
	t.Logf("%5d documents used", used)
	if used < leastDocuments || len(scenarios) < leastScenarios {
		t.Errorf("%d documents and %d scenarios are less than %d and %d", used, len(scenarios), leastDocuments, leastScenarios)
	}
}

// readCorpus reads the VirtualServices of Istio's repository out of the module
// cache.
func readCorpus(t *testing.T, skipped map[string]int) []document {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/istio").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	var all []document
	for _, folder := range corpusFolders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(content, []byte("kind: VirtualService")) {
				return err
			}
			file, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			if bytes.Contains(content, []byte("{{")) {
				skipped["file is a template"]++
				return nil
			}
			found, err := virtualServices(content)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			for _, o := range found {
				all = append(all, document{o, file, found})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func virtualServices(content []byte) ([]object, error) {
	var found []object
	for documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096); ; {
		o := &unstructured.Unstructured{}
		if err := documents.Decode(&o.Object); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		if o.GetKind() == "VirtualService" && strings.HasPrefix(o.GetAPIVersion(), "networking.istio.io/") {
			if o.GetNamespace() == "" {
				o.SetNamespace("default")
			}
			found = append(found, o)
		}
	}
}

// scenarios returns two experiments on each host of a document, or the reason why there
// are none. Their names are numbered from number.
func (d document) scenarios(t *testing.T, number int) (reason string, made []scenario) {
	t.Helper()
	spec := mapOf(d.Object["spec"])
	hosts, _ := spec["hosts"].([]any)
	gateways, _ := spec["gateways"].([]any)
	switch {
	case len(hosts) == 0:
		return "is a delegate, or has no hosts", nil
	case len(gateways) > 0 && !slices.Contains(gateways, any("mesh")):
		return "is bound to gateways only", nil
	}
	for i := range hosts {
		for _, narrow := range []bool{false, true} {
			r := &renamer{id: fmt.Sprintf("c%04d", number+len(made))}
			s := r.scenario(d, i, narrow)
			if reason := admit(t, s); reason != "" {
				return reason, nil
			}
			made = append(made, s)
		}
	}
	return "", made
}

// admit says why istiod's webhook or its CRDs would not let a scenario in.
func admit(t *testing.T, s scenario) string {
	t.Helper()
	for _, o := range s.objects() {
		err := bed.validate(t.Context(), o)
		if _, denied := errors.AsType[deniedError](err); denied {
			return "istiod's webhook refuses it"
		} else if err != nil {
			t.Fatal(err)
		}
		o = o.DeepCopy()
		o.SetNamespace("default")
		_, err = bed.resource(o).Create(t.Context(), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
			return "the API server refuses it"
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return ""
}

// renamer changes the namespaces and hosts of a document, so that they are unique.
type renamer struct {
	id         string
	namespaces []string
	// hosts are the names behind which there must be something, and ports
	// where.
	hosts []string
	ports []int64
}

func (r *renamer) namespace(name string) string {
	name = r.id + "-" + name
	if !slices.Contains(r.namespaces, name) {
		r.namespaces = append(r.namespaces, name)
	}
	return name
}

var clusterHost = regexp.MustCompile(`^(.+)\.([^.*]+)\.svc\.cluster\.local$`)

// host renames a host that an object of a namespace names. A short name moves
// with its namespace.
func (r *renamer) host(name, namespace string) string {
	renamed, full := name+"."+r.id+".test", ""
	if parts := clusterHost.FindStringSubmatch(name); parts != nil {
		renamed = parts[1] + "." + r.namespace(parts[2]) + ".svc.cluster.local"
	} else if !strings.Contains(name, ".") {
		renamed, full = name, name+"."+r.namespace(namespace)+".svc.cluster.local"
	}
	if full == "" {
		full = renamed
	}
	if full = concrete(full); !slices.Contains(r.hosts, full) {
		r.hosts = append(r.hosts, full)
	}
	return renamed
}

// concrete returns a host that matches a pattern.
func concrete(pattern string) string {
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return "one" + suffix
	}
	return pattern
}

// scenario puts an experiment on one host of a document: on every request of a
// namespace, or on some requests of some of its workloads.
func (r *renamer) scenario(d document, host int, narrow bool) scenario {
	wave := []object{r.rename(d.object)}
	for _, sibling := range d.siblings {
		if sibling != d.object && (d.delegatesTo(sibling) || d.sharesHost(sibling)) {
			wave = append(wave, r.rename(sibling))
		}
	}
	root := mapOf(wave[0].Object["spec"])
	target := text(root["hosts"].([]any)[host]) //nolint:forcetypeassert // checked by the caller
	if !strings.Contains(target, ".") {
		target += "." + wave[0].GetNamespace() + ".svc.cluster.local"
	}
	e := experiment{name: r.id, host: strings.ToLower(concrete(target)), callers: []caller{{namespace: r.namespace("callers")}}}
	if exportTo, _ := root["exportTo"].([]any); len(exportTo) > 0 && !slices.Contains(exportTo, any("*")) {
		e.callers[0].namespace = wave[0].GetNamespace()
	}
	e.fault, e.envoy = m{"abort": m{"httpStatus": int64(503)}, "percentage": 100}, m{
		"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
		"abort": m{"httpStatus": 503.0, "percentage": m{"numerator": 1000000.0, "denominator": "MILLION"}},
	}
	if narrow {
		e.callers[0].labels = map[string]string{"app": "caller"}
		e.match = []m{{"headers": m{"end-user": m{"exact": "jason"}}}, {"uri": m{"prefix": "/api"}, "method": m{"exact": "GET"}}}
		e.port = 9080
	}
	r.namespace("elsewhere")
	ports := append([]int64{9080}, r.ports...)
	slices.Sort(ports)
	exportTo := slices.Clone(r.namespaces)
	for i, name := range r.hosts {
		namespace := wave[0].GetNamespace()
		if parts := clusterHost.FindStringSubmatch(name); parts != nil {
			namespace = parts[2]
		}
		wave = append(wave, withSpec(manifest(networking, "ServiceEntry", namespace, fmt.Sprintf("host-%d", i)),
			serviceEntrySpec(list(name), slices.Compact(slices.Clone(ports)), exportTo)))
	}
	return scenario{name: r.id, namespaces: r.namespaces, waves: [][]object{wave}, experiment: e}
}

func (d document) delegatesTo(o object) bool {
	for _, route := range items(mapOf(d.Object["spec"])["http"]) {
		to := mapOf(route["delegate"])
		if to != nil && to["name"] == o.GetName() && (to["namespace"] == o.GetNamespace() || to["namespace"] == nil && o.GetNamespace() == d.GetNamespace()) {
			return true
		}
	}
	return false
}

// sharesHost reports whether another VirtualService names one of the hosts
// too, so that istiod chooses between the two.
func (d document) sharesHost(o object) bool {
	return slices.ContainsFunc(qualifiedHosts(d.object), func(host string) bool { return slices.Contains(qualifiedHosts(o), host) })
}

func qualifiedHosts(o object) []string {
	var hosts []string
	names, _ := mapOf(o.Object["spec"])["hosts"].([]any)
	for _, name := range names {
		host := text(name)
		if !strings.Contains(host, ".") {
			host += "." + o.GetNamespace()
		}
		hosts = append(hosts, host)
	}
	return hosts
}

// rename returns a copy of an object under other names.
func (r *renamer) rename(o object) object {
	renamed := manifest(o.GetAPIVersion(), o.GetKind(), r.namespace(o.GetNamespace()), o.GetName())
	renamed.SetLabels(o.GetLabels())
	renamed.SetAnnotations(o.GetAnnotations())
	spec := mapOf(o.DeepCopy().Object["spec"])
	r.rewrite(spec, o.GetNamespace())
	return withSpec(renamed, spec)
}

// rewrite renames the namespaces and hosts in a value.
func (r *renamer) rewrite(value any, namespace string) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			r.rewrite(item, namespace)
		}
	case m:
		for field, below := range value {
			r.rewriteField(value, field, below, namespace)
		}
	}
}

func (r *renamer) rewriteField(parent m, field string, below any, namespace string) {
	switch field {
	case "hosts", "sniHosts":
		names, _ := below.([]any)
		for i, name := range names {
			names[i] = r.host(text(name), namespace)
		}
	case "host":
		parent[field] = r.host(text(below), namespace)
	case "exportTo":
		names, _ := below.([]any)
		for i, name := range names {
			if name != "." && name != "*" {
				names[i] = r.namespace(text(name))
			}
		}
	case "delegate":
		if child := mapOf(below); child["namespace"] != nil {
			child["namespace"] = r.namespace(text(child["namespace"]))
		}
	case "sourceNamespace":
		parent[field] = r.namespace(text(below))
	case "number":
		r.port(below)
	case "port":
		r.port(below)
		r.rewrite(below, namespace)
	case "headers":
		// Names and values of requests.
	default:
		r.rewrite(below, namespace)
	}
}

func (r *renamer) port(value any) {
	if number, is := value.(int64); is {
		r.ports = append(r.ports, number)
	} else if number, is := value.(float64); is {
		r.ports = append(r.ports, int64(number))
	}
}
