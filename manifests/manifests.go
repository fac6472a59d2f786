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
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/validation"
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

// Options are how the manifests are read.
type Options struct {
	// Strict makes a problem of each file, and each document, that is not a manifest of
	// a Kubernetes object. Otherwise it is skipped.
	Strict bool
	// Overrides are what the user says about the control plane.
	Overrides config.Overrides
}

// Mesh is a mesh from manifest files.
type Mesh struct {
	config.Snapshot
	// Skipped has what is not a manifest, with its position.
	Skipped problem.List
	// Replaced has the objects that a later root has too, which takes precedence.
	Replaced []string
}

// Read returns the mesh that the .yaml, .yml and .json files below some directories
// describe together; a root may also be a single file. Objects of other kinds are
// ignored, but their namespaces exist. Files and directories whose names begin with a
// dot are skipped. An object of a later root replaces the one of the same name of an
// earlier root. Patches of a kustomization are always skipped, because they are parts of
// objects.
//
// If there are problems, the error is a problem.List with all of them.
func Read(roots []string, o Options) (Mesh, error) {
	r := &reader{Mesh: Mesh{Snapshot: config.Defaults()}, strict: o.Strict, objects: map[identity]*object{}, left: maxBytes}
	for i, root := range roots {
		r.root = i
		found, err := find(root)
		if err != nil {
			return Mesh{}, problem.List{{File: root, Message: "cannot be read: " + err.Error()}}
		}
		if len(found) == 0 {
			return Mesh{}, problem.List{{File: root, Message: "is a directory without any .yaml, .yml or .json file"}}
		}
		patches := r.patches(found)
		for _, name := range found {
			if isManifest(name) || name == root {
				r.file(name, patches[filepath.Clean(name)])
			}
		}
	}
	r.finish(roots)
	if err := r.Configure(r.found, o.Overrides); err != nil {
		r.add(roots[0], 0, 0, "", "%v", err)
	}
	if len(r.problems) > 0 {
		return Mesh{}, r.problems
	}
	return r.Mesh, nil
}

// find returns the manifest files and the kustomizations below root in lexical order.
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
		if err == nil && info.Mode().IsRegular() && (name == root || isManifest(name) || isKustomization(name)) {
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
	root         int
}

// reader fills a Mesh.
type reader struct {
	Mesh
	strict   bool
	problems problem.List
	// objects has the objects whose kinds a Snapshot holds.
	objects map[identity]*object
	order   []identity
	// printed reports whether there is a list; kubectl prints an empty one for a mesh
	// without objects.
	printed bool
	// root is the number of the root that is being read.
	root int
	// left is the number of bytes that may still be read.
	left int64
	// versions are the versions of Istio's API in the manifests.
	versions []string
	// found are the objects that describe control planes.
	found config.Found
}

// add reports a problem. If line is 0, it is about the whole file.
func (r *reader) add(file string, line, column int, remedy, format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, problem.Problem{File: file, Line: line, Column: column, Message: fmt.Sprintf(format, args...), Remedy: remedy})
	}
}

// skip reports something that is not a manifest: as a problem if the files must be
// manifests.
func (r *reader) skip(file string, line, column int, remedy, format string, args ...any) {
	if r.strict {
		r.add(file, line, column, remedy, format, args...)
		return
	}
	r.Skipped = append(r.Skipped, problem.Problem{File: file, Line: line, Column: column, Message: fmt.Sprintf(format, args...)})
}

// file reads a file; patch is true for a patch of a kustomization.
func (r *reader) file(name string, patch bool) {
	if patch {
		r.Skipped = append(r.Skipped, problem.Problem{File: name, Message: "is a patch of a kustomization"})
		return
	}
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
		r.printed = true
		for _, item := range items {
			content, _ := item.(map[string]any)
			r.manifest(&object{Unstructured: &unstructured.Unstructured{Object: content}, file: o.file, line: o.line, column: o.column})
		}
		return
	}
	if o.GetKind() == "" || o.GetAPIVersion() == "" {
		r.skip(o.file, o.line, o.column, "an object needs apiVersion, kind and metadata", "is not a manifest of a Kubernetes object")
		return
	}
	if namespace := o.GetNamespace(); namespace != "" {
		if !r.checkName(o, "metadata.namespace", namespace) {
			return
		}
		r.namespace(namespace, nil)
	}
	if r.takerOf(o.Unstructured) != nil && r.checkName(o, "metadata.name", o.GetName()) {
		r.take(o)
	}
}

// listSuffix is the suffix of list kinds: List, as printed by kubectl, and kinds of
// the API such as VirtualServiceList.
const listSuffix = "List"

// checkName reports names that the API server refuses. It returns false for them,
// so that they are not printed elsewhere.
func (r *reader) checkName(o *object, field, name string) bool {
	if isTemplate([]byte(name)) {
		r.skip(o.file, o.line, o.column, "", "%s of a %s is an expression of a template", field, o.GetKind())
		return false
	}
	for _, problem := range utilvalidation.IsDNS1123Subdomain(name) {
		r.add(o.file, o.line, o.column, "", "%s %q of a %s is not a valid name: %s", field, name, o.GetKind(), problem)
		return false
	}
	return true
}

// take keeps an object for the snapshot. Of two objects of the same name the one of
// the later root counts; two different ones in one root are a problem.
func (r *reader) take(o *object) {
	kind := o.GroupVersionKind().GroupKind()
	if kind.Kind != "Namespace" && o.GetNamespace() == "" {
		o.SetNamespace(defaultNamespace)
		r.namespace(defaultNamespace, nil)
	}
	if kind.Group == config.IstioGroup {
		for _, wrong := range validation.Check(o.Unstructured) {
			r.add(o.file, o.line, o.column, "Istio refuses such an object", "%s %s/%s: %s: %s", kind.Kind, o.GetNamespace(), o.GetName(), wrong.Path, wrong.Message)
		}
	}
	o.root = r.root
	id := identity{kind: kind, namespace: o.GetNamespace(), name: o.GetName()}
	first, twice := r.objects[id]
	switch {
	case !twice:
		r.order = append(r.order, id)
	case first.root < o.root:
		r.Replaced = append(r.Replaced, fmt.Sprintf("%s %s of %s by the one of %s", kind.Kind, strings.TrimPrefix(id.namespace+"/"+id.name, "/"), first.file, o.file))
	case !reflect.DeepEqual(first.Object, o.Object):
		r.add(o.file, o.line, o.column, "remove one of the manifests, or name the directories one after the other: of two --mesh the later one wins",
			"%s %s differs from the one of the same name at %s:%d", kind.Kind, strings.TrimPrefix(id.namespace+"/"+id.name, "/"), first.file, first.line)
		return
	}
	r.objects[id] = o
}

// takerOf returns the function that adds an object to the snapshot, or nil for objects
// that a snapshot does not have.
func (r *reader) takerOf(manifest *unstructured.Unstructured) func(*object) {
	s := &r.Snapshot
	into := func(list *[]*unstructured.Unstructured) func(*object) {
		return func(o *object) { *list = append(*list, o.Unstructured) }
	}
	switch manifest.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Group: config.IstioGroup, Kind: "VirtualService"}:
		return into(&s.VirtualServices)
	case schema.GroupKind{Group: config.IstioGroup, Kind: "ServiceEntry"}:
		return into(&s.ServiceEntries)
	case schema.GroupKind{Group: config.IstioGroup, Kind: "DestinationRule"}:
		return into(&s.DestinationRules)
	case schema.GroupKind{Group: config.IstioGroup, Kind: "Sidecar"}:
		return into(&s.Sidecars)
	case schema.GroupKind{Group: config.IstioGroup, Kind: "Gateway"}:
		return into(&s.Gateways)
	case schema.GroupKind{Group: gatewayGroup, Kind: "HTTPRoute"}, schema.GroupKind{Group: gatewayGroup, Kind: "GRPCRoute"}:
		return into(&s.Routes)
	case schema.GroupKind{Kind: "Service"}:
		return r.service
	case schema.GroupKind{Kind: "Namespace"}:
		return func(o *object) {
			r.namespace(o.GetName(), map[string]string{nameLabel: o.GetName()})
			r.namespace(o.GetName(), o.GetLabels())
		}
	default:
		return r.controlPlane(manifest)
	}
}

// controlPlane returns the function that keeps an object that describes a control
// plane, or nil for all others.
func (r *reader) controlPlane(manifest *unstructured.Unstructured) func(*object) {
	switch kind := manifest.GroupVersionKind().GroupKind(); {
	case kind == schema.GroupKind{Kind: "ConfigMap"} && config.HasMeshConfig(manifest):
		return r.configMap
	case kind == schema.GroupKind{Group: "apps", Kind: "Deployment"} && config.IsIstiod(manifest):
		return func(o *object) { r.found.Deployments = append(r.found.Deployments, o.Unstructured) }
	case kind == schema.GroupKind{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"} && config.IsTag(manifest):
		return func(o *object) { r.found.Tags = append(r.found.Tags, o.Unstructured) }
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
	r.Services = append(r.Services, manifest.Service())
}

// namespace adds a namespace. A namespace that is only referred to by name has no
// labels except the one that the API server adds.
func (r *reader) namespace(name string, labels map[string]string) {
	if r.Namespaces[name] == nil {
		r.Namespaces[name] = map[string]string{}
	}
	maps.Copy(r.Namespaces[name], labels)
}

// configMap keeps a ConfigMap with a MeshConfig.
func (r *reader) configMap(o *object) {
	if err := new(config.Settings).Apply(o.Unstructured); err != nil {
		r.add(o.file, o.line, o.column, "", "%v", err)
		return
	}
	r.found.ConfigMaps = append(r.found.ConfigMaps, o.Unstructured)
}

// finish fills the snapshot. It sets the version of new objects to the newest one in
// the manifests, because kubectl prints the newest version that a cluster serves.
func (r *reader) finish(roots []string) {
	if len(r.order) == 0 && len(r.problems) == 0 && !r.printed {
		r.add(roots[0], 0, 0, "the files of the mesh come after --mesh, the experiments without a flag",
			"has no object of a mesh: no VirtualService, ServiceEntry, DestinationRule, Sidecar, Service or Namespace")
		return
	}
	for _, id := range r.order {
		o := r.objects[id]
		if kind := o.GroupVersionKind(); kind.Group == config.IstioGroup {
			r.versions = append(r.versions, kind.Version)
		}
		r.takerOf(o.Unstructured)(o)
	}
	version := config.IstioVersions[0]
	for _, known := range config.IstioVersions {
		if slices.Contains(r.versions, known) {
			version = known
			break
		}
	}
	r.APIVersion = schema.GroupVersion{Group: config.IstioGroup, Version: version}.String()
}
