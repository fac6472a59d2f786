package oracle_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
)

const networking = "networking.istio.io/v1"

// m and list write manifests.
type m = map[string]any

func list(items ...any) []any { return items }

func anys[T any](items []T) []any {
	out := make([]any, len(items))
	for i, item := range items {
		out[i] = item
	}
	return out
}

func manifest(apiVersion, kind, namespace, name string) object {
	o := &unstructured.Unstructured{Object: m{}}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetName(name)
	if namespace != "" {
		o.SetNamespace(namespace)
	}
	return o
}

func withSpec(o object, spec m) object {
	o.Object["spec"] = spec
	return o
}

// serviceEntrySpec replaces Services and their pods, because kube-apiserver refuses
// loopback addresses in EndpointSlices.
func serviceEntrySpec(hosts []any, ports []int64, exportTo []string) m {
	var all []any
	for _, port := range ports {
		all = append(all, m{"number": port, "name": fmt.Sprintf("http-%d", port), "protocol": "HTTP"})
	}
	return m{
		"hosts": hosts, "location": "MESH_INTERNAL", "resolution": "STATIC", "ports": all, "exportTo": anys(exportTo),
		"endpoints": list(m{"address": "127.0.0.21", "labels": m{"version": "v1"}}, m{"address": "127.0.0.22", "labels": m{"version": "v2"}}),
	}
}

// scenario is a small separate mesh: its namespaces and hosts are unique, so that many
// can be in the sandbox at the same time.
type scenario struct {
	// name starts the names of its namespaces.
	name       string
	namespaces []string
	// waves are created one after another, each in a later second.
	waves      [][]object
	experiment experiment
}

func (s scenario) objects() []object {
	var all []object
	for _, wave := range s.waves {
		all = append(all, wave...)
	}
	return all
}

// String returns the scenario as YAML for squall plan --mesh: the objects, and the
// experiment.
func (s scenario) String() string {
	var out strings.Builder
	for _, name := range s.namespaces {
		fmt.Fprintf(&out, "{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n---\n", name)
	}
	for i, wave := range s.waves {
		for _, o := range wave {
			if o.GetKind() == "ServiceEntry" { // all alike
				fmt.Fprintf(&out, "%s\n---\n", encode(o.Object))
				continue
			}
			encoded, err := yaml.Marshal(o.Object)
			fmt.Fprintf(&out, "# created in wave %d\n%s---\n", i+1, orError(encoded, err))
		}
	}
	encoded, err := yaml.Marshal(s.experiment.document())
	fmt.Fprintf(&out, "%s", orError(encoded, err))
	return out.String()
}

func orError(text []byte, err error) string {
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// experiment is an experiment as the checks understand it, without the code
// under test.
type experiment struct {
	name string
	host string
	port int64
	// callers has one entry for each set of workloads.
	callers []caller
	// match holds conditions as Istio writes them.
	match []m
	// fault is the one fault, and envoy is Envoy's configuration for it.
	fault, envoy m
	// minRequests is how much proof the experiment wants.
	minRequests int64
}

type caller struct {
	namespace string
	labels    map[string]string
}

// covers reports whether a workload is among the callers.
func (c caller) covers(w identity.Workload) bool {
	if c.namespace != w.Namespace {
		return false
	}
	for key, value := range c.labels {
		if w.Labels[key] != value {
			return false
		}
	}
	return true
}

func (e experiment) covers(w identity.Workload) bool {
	for _, c := range e.callers {
		if c.covers(w) {
			return true
		}
	}
	return false
}

func (e experiment) callsFrom(namespace string) bool {
	for _, c := range e.callers {
		if c.namespace == namespace {
			return true
		}
	}
	return false
}

// document returns the experiment as a file.
func (e experiment) document() m {
	target := m{"host": e.host}
	if e.port != 0 {
		target["port"] = e.port
	}
	var callers []any
	for _, c := range e.callers {
		entry := m{"namespace": c.namespace}
		if len(c.labels) > 0 {
			entry["labels"] = c.labels
		}
		callers = append(callers, entry)
	}
	spec := m{
		"target": target, "callers": callers, "faults": list(e.fault), "duration": "1m",
		"steadyState": m{"probes": []any{}}, "effect": m{"minRequests": e.minRequests},
	}
	if len(e.match) > 0 {
		spec["match"] = anys(e.match)
	}
	return experimentFile(e.name, spec)
}

// experimentFile writes an experiment file.
func experimentFile(name string, spec m) m {
	return m{"apiVersion": "squall.dev/v1alpha1", "kind": "Experiment", "metadata": m{"name": name}, "spec": spec}
}

// workloads are the identities that look at a scenario's routes.
type workloads struct {
	// targeted are callers; beside are others of their namespaces.
	targeted, beside, elsewhere []identity.Workload
}

// workloads returns callers with exactly the experiment's labels, callers with the labels
// that matter to the mesh, and others.
func (s scenario) workloads() workloads {
	var all workloads
	var seen []string
	see := func(namespace string, own, extra map[string]string) {
		labels := map[string]string{}
		maps.Copy(labels, extra)
		maps.Copy(labels, own)
		key := namespace + encode(labels)
		if slices.Contains(seen, key) {
			return
		}
		seen = append(seen, key)
		w := workload(namespace, fmt.Sprintf("workload-%d", len(seen)), labels)
		switch {
		case s.experiment.covers(w):
			all.targeted = append(all.targeted, w)
		case s.experiment.callsFrom(namespace):
			all.beside = append(all.beside, w)
		default:
			all.elsewhere = append(all.elsewhere, w)
		}
	}
	differences := append([]map[string]string{nil}, s.labels()...)
	for _, c := range s.experiment.callers {
		for _, labels := range differences {
			see(c.namespace, c.labels, labels)
			see(c.namespace, nil, labels)
		}
	}
	for _, namespace := range s.namespaces {
		if !s.experiment.callsFrom(namespace) {
			see(namespace, s.experiment.callers[0].labels, nil)
		}
	}
	return all
}

// labels returns the label sets by which the objects select workloads.
func (s scenario) labels() []map[string]string {
	var found []map[string]string
	add := func(value any) {
		labels := map[string]string{}
		for key, label := range mapOf(value) {
			labels[key] = text(label)
		}
		if len(labels) > 0 && !slices.ContainsFunc(found, func(have map[string]string) bool { return equal(have, labels) }) {
			found = append(found, labels)
		}
	}
	for _, o := range s.objects() {
		spec := mapOf(o.Object["spec"])
		add(mapOf(spec["workloadSelector"])["labels"])
		for _, route := range items(spec["http"]) {
			for _, match := range items(route["match"]) {
				add(match["sourceLabels"])
			}
		}
	}
	return found
}

func (w workloads) all() []identity.Workload {
	return append(append(append([]identity.Workload(nil), w.targeted...), w.beside...), w.elsewhere...)
}

// workload returns an identity. Its address is not an endpoint.
func workload(namespace, name string, labels map[string]string) identity.Workload {
	return identity.Workload{Namespace: namespace, Name: name, IP: "127.0.1.1", Labels: labels}
}
