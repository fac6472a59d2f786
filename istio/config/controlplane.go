package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/fields"
)

// DefaultRevision is the revision of a control plane that is installed without one
// (istio.io/istio/manifests/charts/istio-control/istio-discovery, revision).
const DefaultRevision = "default"

// ControlPlane is istiod of one revision in one namespace.
type ControlPlane struct {
	Namespace, Revision string
	// Labelled is whether the revision is certain. It is not if nothing names one.
	Labelled bool
	// Version is the version of Istio; empty if it is not known.
	Version string
	// ClusterDomain is empty if it is not known.
	ClusterDomain string
	Settings      Settings
	// Unread is whether its ConfigMap may not be read. Settings then are Istio's
	// defaults.
	Unread bool
}

// Name returns the revision and the namespace: "default in istio-system".
func (p ControlPlane) Name() string { return p.Revision + " in " + p.Namespace }

// ConfigMap returns the name of the ConfigMap with the MeshConfig
// (istio.io/istio/pilot/pkg/bootstrap, getMeshConfigMapName).
func (p ControlPlane) ConfigMap() string {
	if p.Revision == DefaultRevision {
		return configMapName
	}
	return configMapName + "-" + p.Revision
}

// configMapName is the name of the ConfigMap of the default revision.
const configMapName = "istio"

// revisionOfConfigMap returns the revision whose MeshConfig a ConfigMap of a name has.
func revisionOfConfigMap(name string) (revision string, ok bool) {
	if name == configMapName {
		return DefaultRevision, true
	}
	return strings.CutPrefix(name, configMapName+"-")
}

// Overrides are what a user says about the control plane of the callers, in place of
// what is read. Empty fields are read.
type Overrides struct {
	ClusterDomain string
	// Namespace is the namespace of the control plane.
	Namespace string
	// Revision is the revision of the control plane.
	Revision string
}

// Found are the objects that describe control planes. The Services of a snapshot do so
// too.
type Found struct {
	// ConfigMaps have a MeshConfig.
	ConfigMaps []*unstructured.Unstructured
	// Deployments have istiod.
	Deployments []*unstructured.Unstructured
	// Tags have the labels istio.io/tag and istio.io/rev: MutatingWebhookConfigurations.
	Tags []*unstructured.Unstructured
	// TagsUnread is whether the Tags are not all.
	TagsUnread bool
	// Unread are the ConfigMaps that may not be read, as namespace/name.
	Unread []string
}

// The labels of istiod's objects (istio.io/istio/manifests/charts/istio-control/istio-discovery).
const (
	appLabel = "app"
	istiod   = "istiod"
	tagLabel = "istio.io/tag"
)

// IstiodSelector selects the Services and Deployments of control planes.
const IstiodSelector = appLabel + "=" + istiod

// TagSelector selects the MutatingWebhookConfigurations of tags.
const TagSelector = tagLabel

// IsIstiod reports whether a Deployment is of a control plane.
func IsIstiod(deployment *unstructured.Unstructured) bool {
	inPods, _, _ := unstructured.NestedStringMap(deployment.Object, "spec", "template", "metadata", "labels")
	return deployment.GetLabels()[appLabel] == istiod || inPods[appLabel] == istiod
}

// IsTag reports whether a MutatingWebhookConfiguration is of a tag.
func IsTag(webhook *unstructured.Unstructured) bool { return webhook.GetLabels()[tagLabel] != "" }

// Istiods returns the control planes that have a Service, by their namespaces and
// revisions.
func Istiods(services []Service) []ControlPlane {
	var found []ControlPlane
	for _, service := range services {
		if service.Labels[appLabel] == istiod && service.Labels[tagLabel] == "" {
			revision, labelled := service.Labels[RevisionLabel]
			found = append(found, ControlPlane{Namespace: service.Namespace, Revision: cmp.Or(revision, DefaultRevision), Labelled: labelled})
		}
	}
	return found
}

// Configure sets the control planes of a snapshot that has all other objects. It
// returns an error if a MeshConfig cannot be read.
func (s *Snapshot) Configure(found Found, o Overrides) error {
	planes := planes{}
	for _, plane := range Istiods(s.Services) {
		planes.at(plane.Namespace, plane.Revision, plane.Labelled)
	}
	for _, deployment := range found.Deployments {
		planes.deployment(deployment)
	}
	for _, configMap := range found.ConfigMaps {
		if err := planes.configMap(configMap); err != nil {
			return err
		}
	}
	maps.DeleteFunc(planes, func(_ planeKey, plane *ControlPlane) bool { return o.Namespace != "" && plane.Namespace != o.Namespace })
	if len(planes) == 0 {
		only := planes.at(cmp.Or(o.Namespace, DefaultNamespace), cmp.Or(o.Revision, DefaultRevision), o.Revision != "")
		only.Settings.RootNamespace = only.Namespace
	}
	for _, plane := range planes {
		if slices.Contains(found.Unread, plane.Namespace+"/"+plane.ConfigMap()) {
			plane.Unread = true
			plane.Settings.RootNamespace = plane.Namespace // as Istio's chart sets it
		}
		s.ControlPlanes = append(s.ControlPlanes, *plane)
	}
	slices.SortFunc(s.ControlPlanes, func(a, b ControlPlane) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Revision, b.Revision))
	})
	s.Overrides, s.Settings = o, s.ControlPlanes[0].Settings
	setTags(s, found)
	setDomain(s, o)
	return nil
}

// setTags sets the tags: Services and MutatingWebhookConfigurations have their labels.
func setTags(s *Snapshot, found Found) {
	s.Tags, s.TagsUnread = map[string]string{}, found.TagsUnread
	for _, service := range s.Services {
		if tag := service.Labels[tagLabel]; tag != "" && service.Labels[appLabel] == istiod {
			s.Tags[tag] = cmp.Or(service.Labels[RevisionLabel], DefaultRevision)
		}
	}
	for _, webhook := range found.Tags {
		s.Tags[webhook.GetLabels()[tagLabel]] = cmp.Or(webhook.GetLabels()[RevisionLabel], DefaultRevision)
	}
}

type planeKey struct{ namespace, revision string }

// planes are control planes while they are found.
type planes map[planeKey]*ControlPlane

// at returns the control plane of a revision in a namespace.
func (all planes) at(namespace, revision string, labelled bool) *ControlPlane {
	key := planeKey{namespace: namespace, revision: revision}
	if all[key] == nil {
		all[key] = &ControlPlane{Namespace: namespace, Revision: revision, Settings: DefaultSettings()}
	}
	all[key].Labelled = all[key].Labelled || labelled
	return all[key]
}

func (all planes) configMap(configMap *unstructured.Unstructured) error {
	revision, _ := revisionOfConfigMap(configMap.GetName())
	_, labelled := configMap.GetLabels()[RevisionLabel]
	return all.at(configMap.GetNamespace(), revision, labelled || revision != DefaultRevision).Settings.Apply(configMap)
}

// deployment reads the revision, the version and the cluster domain of istiod from its
// Deployment. The chart sets the domain in an argument
// (istio.io/istio/pilot/cmd/pilot-discovery/app, newDiscoveryCommand).
func (all planes) deployment(deployment *unstructured.Unstructured) {
	inPods, _, _ := unstructured.NestedStringMap(deployment.Object, "spec", "template", "metadata", "labels")
	revision := cmp.Or(deployment.GetLabels()[RevisionLabel], inPods[RevisionLabel])
	plane := all.at(deployment.GetNamespace(), cmp.Or(revision, DefaultRevision), revision != "")
	for _, container := range containersOf(deployment) {
		args := fields.Strings(container, "args")
		for i, arg := range args {
			if domain, joined := strings.CutPrefix(arg, "--domain="); joined {
				plane.ClusterDomain = domain
			} else if arg == "--domain" && i+1 < len(args) {
				plane.ClusterDomain = args[i+1]
			}
		}
	}
	plane.Version = VersionOf(deployment)
}

// VersionOf returns the version of the istiod of a Deployment: the tag of its image, else
// the version label. It returns an empty string if there is neither.
func VersionOf(deployment *unstructured.Unstructured) string {
	for _, container := range containersOf(deployment) {
		image, _, _ := strings.Cut(fields.String(container, "image"), "@") // a digest is not a version
		if _, tag, tagged := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":"); tagged {
			return tag
		}
	}
	return deployment.GetLabels()["app.kubernetes.io/version"]
}

func containersOf(deployment *unstructured.Unstructured) []map[string]any {
	return fields.Maps(fields.Map(fields.Map(fields.Map(deployment.Object, "spec"), "template"), "spec"), "containers")
}

// For returns the snapshot as the control plane of some proxies has it: with its
// settings, and without the objects of other revisions
// (istio.io/istio/pkg/config, LabelsInRevision). The proxies are in a namespace and
// have at least the labels.
//
// The error is a *ControlPlaneError if their control plane is not known.
func (s Snapshot) For(namespace string, labels map[string]string) (Snapshot, error) {
	if len(s.ControlPlanes) == 0 {
		return s, nil
	}
	plane, err := planeOf(s, namespace, labels)
	if err != nil {
		return s, err
	}
	s.Settings, s.Plane = plane.Settings, plane
	if !plane.Labelled {
		return s, nil
	}
	for _, objects := range []*[]*unstructured.Unstructured{&s.VirtualServices, &s.ServiceEntries, &s.DestinationRules, &s.Sidecars, &s.Gateways} {
		other := func(object *unstructured.Unstructured) bool {
			revision := object.GetLabels()[RevisionLabel]
			return revision != "" && revision != plane.Revision
		}
		if slices.ContainsFunc(*objects, other) {
			*objects = slices.DeleteFunc(slices.Clone(*objects), other)
		}
	}
	return s, nil
}

// planeOf returns the control plane of the proxies of a namespace that have at least
// the labels. A pod with a sidecar has the label istio.io/rev of its control plane. The
// labels of the namespace decide which one injects new pods
// (istio.io/istio/manifests/charts/istio-control/istio-discovery, mutatingwebhook.yaml).
func planeOf(s Snapshot, namespace string, labels map[string]string) (ControlPlane, error) {
	of := s.Namespaces[namespace]
	revision, explicit := cmp.Or(s.Overrides.Revision, labels[RevisionLabel]), true
	if _, decided := of["istio-injection"]; revision == "" && !decided {
		revision = of[RevisionLabel]
	}
	if revision == "" {
		revision, explicit = DefaultRevision, false
	}
	wanted := cmp.Or(s.Tags[revision], revision)
	var matching []ControlPlane
	for _, plane := range s.ControlPlanes {
		if plane.Revision == wanted {
			matching = append(matching, plane)
		}
	}
	if len(matching) > 1 {
		matching = slices.DeleteFunc(matching, func(plane ControlPlane) bool {
			return plane.Settings.Discovered != nil && !plane.Settings.Discovered(of)
		})
	}
	switch only := s.ControlPlanes[0]; {
	case len(matching) == 1:
		return matching[0], nil
	case len(s.ControlPlanes) == 1 && (!explicit || s.TagsUnread || !only.Labelled):
		// The label is a tag that is not known, or there is none: one control plane
		// configures all proxies.
		return only, nil
	default:
		err := &ControlPlaneError{Namespace: namespace, Several: len(matching) > 1}
		if explicit {
			err.Revision = revision
		}
		for _, plane := range s.ControlPlanes {
			err.Known = append(err.Known, plane.Name())
		}
		return ControlPlane{}, err
	}
}

// ControlPlaneError says that it is not known which control plane configures the
// proxies of a namespace.
type ControlPlaneError struct {
	Namespace string
	// Revision is the revision or the tag of the proxies; empty if nothing names one.
	Revision string
	// Several is whether more than one control plane has the revision.
	Several bool
	// Known are the known control planes.
	Known []string
}

func (e *ControlPlaneError) Error() string {
	known := strings.Join(e.Known, ", ")
	switch {
	case e.Several:
		return fmt.Sprintf("more than one control plane may configure the proxies of namespace %s: %s", e.Namespace, known)
	case e.Revision == "":
		return fmt.Sprintf("no label says which control plane configures the proxies of namespace %s: %s", e.Namespace, known)
	default:
		return fmt.Sprintf("the proxies of namespace %s have the revision %s, and no control plane of that revision is known: %s", e.Namespace, e.Revision, known)
	}
}
