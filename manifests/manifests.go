// Package manifests reads the mesh configuration from manifest files, in the
// format of kubectl. It is the counterpart of package kube, which reads it from
// an API server.
package manifests

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/istio/config"
)

// maxBytes limits the size of all files together: ten times the manifests of a
// mesh with 10,000 VirtualServices.
const maxBytes = 128 << 20

// maxProblems limits the number of reported problems.
const maxProblems = 100

// defaultNamespace is the namespace of objects without one, as in the API server.
const defaultNamespace = "default"

// nameLabel is the label that the API server adds to every namespace.
const nameLabel = "kubernetes.io/metadata.name"

// gatewayGroup is the API group of the Gateway API.
const gatewayGroup = "gateway.networking.k8s.io"

// Read returns the mesh that the .yaml, .yml and .json files below a directory
// describe; root may also be a single file. Objects of other kinds are ignored,
// but their namespaces exist. Files and directories whose names begin with a dot
// are skipped.
//
// If there are problems, the error is a problem.List with all of them.
func Read(root string) (config.Snapshot, error) {
	r := &reader{snapshot: config.Defaults(), seen: map[identity]*object{}, left: maxBytes}
	files, err := find(root)
	if err != nil {
		return config.Snapshot{}, problem.List{{File: root, Message: "cannot be read: " + err.Error()}}
	}
	if len(files) == 0 {
		return config.Snapshot{}, problem.List{{File: root, Message: "is a directory without any .yaml, .yml or .json file"}}
	}
	for _, name := range files {
		r.file(name)
	}
	r.finish()
	if len(r.problems) > 0 {
		return config.Snapshot{}, r.problems
	}
	return r.snapshot, nil
}

// find returns the manifest files below root in lexical order.
func find(root string) (files []string, err error) {
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		hidden := name != root && strings.HasPrefix(entry.Name(), ".")
		switch {
		case err != nil:
			return err
		case hidden && entry.IsDir():
			return fs.SkipDir
		case hidden || entry.IsDir():
			return nil
		}
		// The files of a mounted ConfigMap are links.
		info, err := os.Stat(name)
		if err == nil && info.Mode().IsRegular() && (name == root || isManifest(name)) {
			files = append(files, name)
		}
		return err
	})
	return files, err
}

func isManifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// identity is unique among the objects of a cluster.
type identity struct {
	kind            schema.GroupKind
	namespace, name string
}

// object is one manifest and its position.
type object struct {
	*unstructured.Unstructured
	file         string
	line, column int
}

// reader fills a Snapshot.
type reader struct {
	snapshot config.Snapshot
	problems problem.List
	seen     map[identity]*object
	// left is the number of bytes that may still be read.
	left int64
	// versions are the versions of Istio's API in the manifests.
	versions []string
}

// add reports a problem. If line is 0, it is about the whole file.
func (r *reader) add(file string, line, column int, remedy, format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, problem.Problem{File: file, Line: line, Column: column, Message: fmt.Sprintf(format, args...), Remedy: remedy})
	}
}

func (r *reader) file(name string) {
	content, err := r.content(name)
	if err != nil {
		r.add(name, 0, 0, "", "cannot be read: %v", err)
		return
	}
	if content == nil {
		return
	}
	decode := r.yaml
	if filepath.Ext(name) == ".json" {
		decode = r.json
	}
	decode(name, content)
}

// content returns a file, or nil if it has reported a problem.
func (r *reader) content(name string) ([]byte, error) {
	if r.left < 0 {
		return nil, nil
	}
	file, err := os.Open(name) //nolint:gosec // the user names the directory
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	content, err := io.ReadAll(io.LimitReader(file, r.left+1))
	if r.left -= int64(len(content)); err == nil && r.left < 0 {
		r.add(name, 0, 0, "keep only the kinds that Squall reads", "makes the manifests larger than %d MiB", maxBytes>>20)
		return nil, nil
	}
	return content, err
}

// manifest reads one object, or the items of a list.
func (r *reader) manifest(o *object) {
	if items, isList := o.Object["items"].([]any); isList && strings.HasSuffix(o.GetKind(), listSuffix) {
		for _, item := range items {
			content, _ := item.(map[string]any)
			r.manifest(&object{Unstructured: &unstructured.Unstructured{Object: content}, file: o.file, line: o.line, column: o.column})
		}
		return
	}
	if o.GetKind() == "" || o.GetAPIVersion() == "" {
		r.add(o.file, o.line, o.column, "an object needs apiVersion, kind and metadata", "is not a manifest of a Kubernetes object")
		return
	}
	if namespace := o.GetNamespace(); namespace != "" {
		if !r.checkName(o, "metadata.namespace", namespace) {
			return
		}
		r.namespace(namespace, nil)
	}
	if take := r.takerOf(o.GroupVersionKind()); take != nil && r.checkName(o, "metadata.name", o.GetName()) {
		r.take(o, take)
	}
}

// listSuffix is the suffix of list kinds: List, as printed by kubectl, and kinds of
// the API such as VirtualServiceList.
const listSuffix = "List"

// checkName reports names that the API server refuses. It returns false for them,
// so that they are not printed elsewhere.
func (r *reader) checkName(o *object, field, name string) bool {
	for _, problem := range validation.IsDNS1123Subdomain(name) {
		r.add(o.file, o.line, o.column, "", "%s %q of a %s is not a valid name: %s", field, name, o.GetKind(), problem)
		return false
	}
	return true
}

// take adds an object to the snapshot, once.
func (r *reader) take(o *object, take func(*object)) {
	kind := o.GroupVersionKind().GroupKind()
	if kind.Kind != "Namespace" && o.GetNamespace() == "" {
		o.SetNamespace(defaultNamespace)
		r.namespace(defaultNamespace, nil)
	}
	id := identity{kind: kind, namespace: o.GetNamespace(), name: o.GetName()}
	if first, twice := r.seen[id]; twice {
		if !reflect.DeepEqual(first.Object, o.Object) {
			r.add(o.file, o.line, o.column, "remove one of the manifests", "%s %s differs from the one of the same name at %s:%d", kind.Kind, strings.TrimPrefix(id.namespace+"/"+id.name, "/"), first.file, first.line)
		}
		return
	}
	r.seen[id] = o
	take(o)
}

// takerOf returns the function that adds objects of a kind to the snapshot, or nil
// for other kinds.
func (r *reader) takerOf(kind schema.GroupVersionKind) func(*object) {
	s := &r.snapshot
	if kind.Group == config.IstioGroup {
		r.versions = append(r.versions, kind.Version)
	}
	into := func(list *[]*unstructured.Unstructured) func(*object) {
		return func(o *object) { *list = append(*list, o.Unstructured) }
	}
	switch kind.GroupKind() {
	case schema.GroupKind{Group: config.IstioGroup, Kind: "VirtualService"}:
		return into(&s.VirtualServices)
	case schema.GroupKind{Group: config.IstioGroup, Kind: "ServiceEntry"}:
		return into(&s.ServiceEntries)
	case schema.GroupKind{Group: config.IstioGroup, Kind: "DestinationRule"}:
		return into(&s.DestinationRules)
	case schema.GroupKind{Group: config.IstioGroup, Kind: "Sidecar"}:
		return into(&s.Sidecars)
	case schema.GroupKind{Group: gatewayGroup, Kind: "HTTPRoute"}, schema.GroupKind{Group: gatewayGroup, Kind: "GRPCRoute"}:
		return into(&s.Routes)
	case schema.GroupKind{Kind: "Service"}:
		return r.service
	case schema.GroupKind{Kind: "Namespace"}:
		return func(o *object) {
			r.namespace(o.GetName(), map[string]string{nameLabel: o.GetName()})
			r.namespace(o.GetName(), o.GetLabels())
		}
	case schema.GroupKind{Kind: "ConfigMap"}:
		return r.configMap
	default:
		return nil
	}
}

// service adds a Kubernetes Service.
func (r *reader) service(o *object) {
	var manifest config.ServiceManifest
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &manifest); err != nil {
		r.add(o.file, o.line, o.column, "", "is not a Service: %v", err)
		return
	}
	r.snapshot.Services = append(r.snapshot.Services, manifest.Service())
}

// namespace adds a namespace. A namespace that is only referred to by name has no
// labels except the one that the API server adds.
func (r *reader) namespace(name string, labels map[string]string) {
	if r.snapshot.Namespaces[name] == nil {
		r.snapshot.Namespaces[name] = map[string]string{}
	}
	maps.Copy(r.snapshot.Namespaces[name], labels)
}

func (r *reader) configMap(o *object) {
	if o.GetNamespace() != config.MeshConfigNamespace || o.GetName() != config.MeshConfigName {
		return
	}
	if err := config.Apply(&r.snapshot, o.Unstructured); err != nil {
		r.add(o.file, o.line, o.column, "", "%v", err)
	}
}

// finish sets the version of new objects to the newest one in the manifests,
// because kubectl prints the newest version that a cluster serves.
func (r *reader) finish() {
	version := config.IstioVersions[0]
	for _, known := range config.IstioVersions {
		if slices.Contains(r.versions, known) {
			version = known
			break
		}
	}
	r.snapshot.APIVersion = schema.GroupVersion{Group: config.IstioGroup, Version: version}.String()
}
