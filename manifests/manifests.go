// Package manifests reads the mesh configuration from manifest files, as
// kubectl takes and prints them. It is to a directory what kube is to
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

// maxBytes bounds what is read, all files together: ten times the manifests
// of a mesh with 10,000 VirtualServices.
const maxBytes = 128 << 20

// maxProblems bounds how many problems are listed.
const maxProblems = 100

// defaultNamespace is where the API server puts an object that names no
// namespace.
const defaultNamespace = "default"

// nameLabel is the label that the API server gives to every namespace.
const nameLabel = "kubernetes.io/metadata.name"

// gatewayGroup is the Gateway API.
const gatewayGroup = "gateway.networking.k8s.io"

// Read gives the mesh that the .yaml, .yml and .json files below a directory
// describe. Objects that do not matter to a plan are ignored, but their
// namespaces exist. Files and directories whose name begins with a dot are left
// out; a file may stand in place of the directory.
//
// When anything is wrong the error is of type problem.List and lists
// everything that is.
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

// find lists the manifest files below root in lexical order.
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
		// A mounted ConfigMap is made of links.
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

// identity is what no two objects of a cluster have in common.
type identity struct {
	kind            schema.GroupKind
	namespace, name string
}

// object is one manifest and its place.
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
	// left is how many bytes may still be read.
	left int64
	// versions are those of Istio's API that the manifests are written in.
	versions []string
}

// add reports a problem; line 0 means the file as a whole.
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

// content reads a file; it is nil when that was reported as a problem.
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
		r.add(name, 0, 0, "keep only what kubectl prints of the kinds that matter", "makes the manifests larger than %d MiB", maxBytes>>20)
		return nil, nil
	}
	return content, err
}

// manifest takes over one object, or the items of a list.
func (r *reader) manifest(o *object) {
	if items, isList := o.Object["items"].([]any); isList && strings.HasSuffix(o.GetKind(), listSuffix) {
		for _, item := range items {
			content, _ := item.(map[string]any)
			r.manifest(&object{Unstructured: &unstructured.Unstructured{Object: content}, file: o.file, line: o.line, column: o.column})
		}
		return
	}
	if o.GetKind() == "" || o.GetAPIVersion() == "" {
		r.add(o.file, o.line, o.column, "an object has apiVersion, kind and metadata", "is no manifest of a Kubernetes object")
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

// listSuffix ends the kinds of lists: List, as kubectl prints, and those of
// the API, such as VirtualServiceList.
const listSuffix = "List"

// checkName refuses what the API server refuses; nothing else may appear in
// what is printed.
func (r *reader) checkName(o *object, field, name string) bool {
	for _, problem := range validation.IsDNS1123Subdomain(name) {
		r.add(o.file, o.line, o.column, "", "%s %q of a %s is no name: %s", field, name, o.GetKind(), problem)
		return false
	}
	return true
}

// take takes an object over, once.
func (r *reader) take(o *object, take func(*object)) {
	kind := o.GroupVersionKind().GroupKind()
	if kind.Kind != "Namespace" && o.GetNamespace() == "" {
		o.SetNamespace(defaultNamespace)
		r.namespace(defaultNamespace, nil)
	}
	id := identity{kind: kind, namespace: o.GetNamespace(), name: o.GetName()}
	if first, twice := r.seen[id]; twice {
		if !reflect.DeepEqual(first.Object, o.Object) {
			r.add(o.file, o.line, o.column, "a cluster holds one; remove the other manifest", "%s %s differs from the one of the same name at %s:%d", kind.Kind, strings.TrimPrefix(id.namespace+"/"+id.name, "/"), first.file, first.line)
		}
		return
	}
	r.seen[id] = o
	take(o)
}

// takerOf gives what an object of a kind does to the snapshot, or nil when it
// does not matter.
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

// service takes over a Kubernetes Service.
func (r *reader) service(o *object) {
	var manifest config.ServiceManifest
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &manifest); err != nil {
		r.add(o.file, o.line, o.column, "", "is no Service: %v", err)
		return
	}
	r.snapshot.Services = append(r.snapshot.Services, manifest.Service())
}

// namespace makes a namespace exist. One without any label is known by name
// only, because the API server labels each.
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

// finish chooses the version that new objects are written in: the newest that
// the manifests show, because kubectl prints the newest that a cluster serves.
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
