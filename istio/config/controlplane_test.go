package config_test

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/istio/config"
)

// manifest returns the object of a manifest.
func manifest(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
		t.Fatal(err)
	}
	return object
}

// controlPlane is a mesh with namespaces, and what describes its control planes.
type controlPlane struct {
	services   []config.Service
	namespaces map[string]map[string]string
	configMaps []string // namespace/name
	tags       map[string]string
	tagsUnread bool
	unread     []string
	overrides  config.Overrides
}

// snapshot returns the configured snapshot. The root namespace of each MeshConfig is the
// name of its ConfigMap, so that a test sees which one counts.
func (c controlPlane) snapshot(t *testing.T) config.Snapshot {
	t.Helper()
	s := config.Defaults()
	s.Services, s.Namespaces = c.services, c.namespaces
	found := config.Found{Unread: c.unread, TagsUnread: c.tagsUnread}
	for _, name := range c.configMaps {
		namespace, name, _ := strings.Cut(name, "/")
		found.ConfigMaps = append(found.ConfigMaps, manifest(t, "{metadata: {namespace: "+namespace+", name: "+name+"}, data: {mesh: 'rootNamespace: "+name+"'}}"))
	}
	for tag, revision := range c.tags {
		found.Tags = append(found.Tags, manifest(t, "{metadata: {name: "+tag+", labels: {istio.io/tag: "+tag+", istio.io/rev: "+revision+"}}}"))
	}
	if err := s.Configure(found, c.overrides); err != nil {
		t.Fatal(err)
	}
	return s
}

func istiod(namespace string, labels ...string) config.Service {
	service := config.Service{Namespace: namespace, Name: "istiod", Labels: map[string]string{"app": "istiod"}}
	for i := 0; i < len(labels); i += 2 {
		service.Labels[labels[i]] = labels[i+1]
	}
	return service
}

func TestWhichControlPlane(t *testing.T) {
	const rev = "istio.io/rev"
	both := []string{"istio-system/istio", "istio-system/istio-b"}
	for name, test := range map[string]struct {
		controlPlane
		labels map[string]string // of shop
		pods   map[string]string
		want   string // revision in namespace, and the root namespace; or a part of the error
	}{
		"nothing is known":                     {want: "default in istio-system, istio-system"},
		"nothing but a namespace":              {controlPlane: controlPlane{overrides: config.Overrides{Namespace: "mesh"}}, want: "default in mesh, mesh"},
		"nothing but a revision":               {controlPlane: controlPlane{overrides: config.Overrides{Revision: "b"}}, want: "b in istio-system, istio-system"},
		"the only one":                         {controlPlane: controlPlane{configMaps: both[:1]}, want: "default in istio-system, istio"},
		"the only one, of a revision":          {controlPlane: controlPlane{configMaps: both[1:]}, want: "b in istio-system, istio-b"},
		"by the label of the namespace":        {controlPlane: controlPlane{configMaps: both}, labels: map[string]string{rev: "b"}, want: "b in istio-system, istio-b"},
		"injection takes precedence":           {controlPlane: controlPlane{configMaps: both}, labels: map[string]string{rev: "b", "istio-injection": "enabled"}, want: "default in istio-system, istio"},
		"by the label of the pods":             {controlPlane: controlPlane{configMaps: both}, labels: map[string]string{rev: "default"}, pods: map[string]string{rev: "b"}, want: "b in istio-system, istio-b"},
		"by the user":                          {controlPlane: controlPlane{configMaps: both, overrides: config.Overrides{Revision: "b"}}, labels: map[string]string{rev: "default"}, want: "b in istio-system, istio-b"},
		"by a tag":                             {controlPlane: controlPlane{configMaps: both, tags: map[string]string{"stable": "b"}}, labels: map[string]string{rev: "stable"}, want: "b in istio-system, istio-b"},
		"by the tag of the default":            {controlPlane: controlPlane{configMaps: both, tags: map[string]string{"default": "b"}}, want: "b in istio-system, istio-b"},
		"by the tag of a Service":              {controlPlane: controlPlane{configMaps: both, services: []config.Service{istiod("istio-system", rev, "b", "istio.io/tag", "stable")}}, labels: map[string]string{rev: "stable"}, want: "b in istio-system, istio-b"},
		"a tag that may not be read":           {controlPlane: controlPlane{configMaps: both[:1], services: []config.Service{istiod("istio-system", rev, "default")}, tagsUnread: true}, labels: map[string]string{rev: "stable"}, want: "default in istio-system, istio"},
		"a revision that is not known":         {controlPlane: controlPlane{configMaps: both}, labels: map[string]string{rev: "c"}, want: "have the revision c, and no control plane of that revision is known: b in istio-system, default in istio-system"},
		"no label, and no default":             {controlPlane: controlPlane{configMaps: []string{"istio-system/istio-a", "istio-system/istio-b"}}, want: "no label says which"},
		"a revision of the user is not known":  {controlPlane: controlPlane{configMaps: both, overrides: config.Overrides{Revision: "c"}}, want: "no control plane of that revision is known"},
		"two namespaces":                       {controlPlane: controlPlane{configMaps: []string{"a/istio", "b/istio"}}, want: "more than one control plane"},
		"two namespaces, one of the user":      {controlPlane: controlPlane{configMaps: []string{"a/istio", "b/istio"}, overrides: config.Overrides{Namespace: "b"}}, want: "default in b, istio"},
		"elsewhere, by its Service":            {controlPlane: controlPlane{services: []config.Service{istiod("mesh", rev, "default")}}, want: "default in mesh, istio-system"},
		"elsewhere, and may not be read":       {controlPlane: controlPlane{services: []config.Service{istiod("mesh", rev, "default")}, unread: []string{"mesh/istio"}}, want: "default in mesh, mesh"},
		"another Service, and another of them": {controlPlane: controlPlane{services: []config.Service{{Namespace: "x", Name: "istiod"}}}, want: "default in istio-system, istio-system"},
	} {
		t.Run(name, func(t *testing.T) {
			test.namespaces = map[string]map[string]string{"shop": test.labels}
			got, err := test.snapshot(t).For("shop", test.pods)
			if _, unknown := errors.AsType[*config.ControlPlaneError](err); unknown {
				if !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %s", err, test.want)
				}
				return
			}
			if found := got.Plane.Name() + ", " + got.RootNamespace; err != nil || found != test.want {
				t.Errorf("%s, %v; want %s", found, err, test.want)
			}
		})
	}
}

// A control plane of a revision does not read the objects of others.
func TestObjectsOfRevisions(t *testing.T) {
	object := func(name, labels string) *unstructured.Unstructured {
		return manifest(t, "{kind: VirtualService, metadata: {name: "+name+", labels: {"+labels+"}}}")
	}
	s := controlPlane{configMaps: []string{"istio-system/istio", "istio-system/istio-b"}, namespaces: map[string]map[string]string{"shop": {"istio.io/rev": "b"}}}.snapshot(t)
	s.VirtualServices = []*unstructured.Unstructured{object("all", ""), object("mine", "istio.io/rev: b"), object("other", "istio.io/rev: default")}
	seen, err := s.For("shop", nil)
	if err != nil || len(seen.VirtualServices) != 2 || seen.VirtualServices[1].GetName() != "mine" || len(s.VirtualServices) != 3 {
		t.Errorf("%v, %v", seen.VirtualServices, err)
	}
	// Without a label the revision of istiod is not certain, and it may read all.
	s = controlPlane{services: []config.Service{istiod("istio-system")}}.snapshot(t)
	s.VirtualServices = []*unstructured.Unstructured{object("other", "istio.io/rev: b")}
	if seen, err := s.For("shop", nil); err != nil || len(seen.VirtualServices) != 1 {
		t.Errorf("%v, %v", seen.VirtualServices, err)
	}
}

func TestDeployment(t *testing.T) {
	deployment := manifest(t, `{metadata: {namespace: mesh, name: istiod, labels: {app: istiod, istio.io/rev: b}},
		spec: {template: {spec: {containers: [{image: "registry:5000/pilot:1.30.2@sha256:12", args: [discovery, --domain, Corp.internal.]}]}}}}`)
	s := config.Defaults()
	if err := s.Configure(config.Found{Deployments: []*unstructured.Unstructured{deployment}}, config.Overrides{}); err != nil {
		t.Fatal(err)
	}
	if plane := s.ControlPlanes[0]; len(s.ControlPlanes) != 1 || plane.Name() != "b in mesh" || plane.Version != "1.30.2" || plane.ConfigMap() != "istio-b" || s.ClusterDomain != "corp.internal" || !config.IsIstiod(deployment) {
		t.Errorf("%+v, %s", s.ControlPlanes, s.ClusterDomain)
	}
}

func TestClusterDomain(t *testing.T) {
	of := func(host string) *unstructured.Unstructured {
		return manifest(t, "{kind: VirtualService, metadata: {namespace: prod, name: v}, spec: {hosts: ["+host+"]}}")
	}
	const home, other = "ratings.prod.svc.cluster.local", "ratings.prod.svc.corp.internal"
	for name, test := range map[string]struct {
		hosts     []string
		overrides config.Overrides
		domain    string
		doubt     string
	}{
		"nothing":               {domain: "cluster.local"},
		"the default":           {hosts: []string{home}, domain: "cluster.local"},
		"another one":           {hosts: []string{other}, domain: "cluster.local", doubt: "may be corp.internal, not cluster.local: VirtualService prod/v names a Service so"},
		"both":                  {hosts: []string{other, home}, domain: "cluster.local"},
		"of no Service":         {hosts: []string{"other.prod.svc.corp.internal", "api.svc.svc.com"}, domain: "cluster.local"},
		"the user's":            {hosts: []string{other}, overrides: config.Overrides{ClusterDomain: "corp.internal"}, domain: "corp.internal"},
		"another, but the user": {hosts: []string{other}, overrides: config.Overrides{ClusterDomain: "cluster.local"}, domain: "cluster.local"},
	} {
		t.Run(name, func(t *testing.T) {
			s := config.Defaults()
			s.Services = []config.Service{{Namespace: "prod", Name: "ratings"}}
			for _, host := range test.hosts {
				s.VirtualServices = append(s.VirtualServices, of(host))
			}
			if err := s.Configure(config.Found{}, test.overrides); err != nil {
				t.Fatal(err)
			}
			if s.ClusterDomain != test.domain || (s.Doubt == nil) != (test.doubt == "") || s.Doubt != nil && !strings.Contains(s.Doubt.Error(), test.doubt) {
				t.Errorf("%s, %v", s.ClusterDomain, s.Doubt)
			}
		})
	}
}
