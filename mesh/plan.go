package mesh

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
)

// Plan is what a run would create, and why, for each namespace of callers.
type Plan struct {
	Experiment string `json:"experiment"`
	// Decisions has one entry for each namespace of callers, and at least one.
	Decisions []Decision `json:"decisions"`
	// Objects are complete manifests in the order of their creation. They
	// carry no metadata of a run yet; Stamp adds it.
	Objects []*unstructured.Unstructured `json:"objects"`
}

// Decision is what happens to the callers of one namespace.
type Decision struct {
	// Host is the target's name as the mesh knows it.
	Host    string `json:"host"`
	Callers string `json:"callers"`
	// InForce is the VirtualService that routes the calls today, as
	// namespace/name, or nil when there is none.
	InForce   *string   `json:"inForce"`
	Placement Placement `json:"placement"`
	Namespace string    `json:"namespace,omitempty"`
	ExportTo  []string  `json:"exportTo,omitempty"`
	// Reason explains the placement or the refusal.
	Reason string `json:"reason"`
	// Hint says what would help against a refusal.
	Hint string `json:"hint,omitempty"`
	// Base is the VirtualService in force in the state that the plan was made
	// from.
	Base *Version `json:"-"`
}

// Version is an object in one state. The generation counts the changes of its
// spec.
type Version struct {
	Ref
	Generation int64
}

// Placement is how a fault is brought to the callers.
type Placement string

// The placements: a new VirtualService where none is in force, a shadow that
// takes precedence over the one in force, or none because the fault could not
// take effect.
const (
	Plain   Placement = "plain"
	Shadow  Placement = "shadow"
	Refused Placement = "refused"
)

// Refusal gives the first decision that refuses, if any does: a run either
// reaches all of its callers or does not start.
func (p Plan) Refusal() (Decision, bool) {
	i := slices.IndexFunc(p.Decisions, func(d Decision) bool { return d.Placement == Refused })
	if i < 0 {
		return Decision{}, false
	}
	return p.Decisions[i], true
}

// refusal is why a fault cannot be brought to some callers, and what would
// help.
type refusal struct{ reason, hint string }

func (r refusal) Error() string { return r.reason }

func refuse(hint, format string, args ...any) error {
	return refusal{fmt.Sprintf(format, args...), hint}
}

// Decide plans an experiment against a snapshot. It decides for each
// namespace of callers; a refusal is a decision, not an error.
func Decide(s Snapshot, e experiments.Experiment) Plan {
	plan := Plan{Experiment: e.Metadata.Name}
	host, known := s.resolveHost(e.Spec.Target.Host, e.Spec.Target.Namespace)
	if len(e.Spec.Callers) == 0 {
		plan.Decisions = []Decision{{Host: host, Placement: Refused, Reason: "the experiment names no callers", Hint: "add spec.callers with the namespace of the workloads that call " + host}}
		return plan
	}
	for _, namespace := range callerNamespaces(e.Spec.Callers) {
		decision := Decision{Host: host, Callers: namespace}
		var object *unstructured.Unstructured
		err := error(nil)
		if known {
			object, err = s.place(&decision, e)
		} else {
			err = refuse("check the spelling; kubectl get services,serviceentries -A lists the hosts", "the mesh knows no host %s: no Service and no ServiceEntry stands for it", host)
		}
		if err != nil {
			decision.Placement, decision.Reason = Refused, err.Error()
			if r, ok := err.(refusal); ok { //nolint:errorlint // made in this package, never wrapped
				decision.Hint = r.hint
			}
		} else {
			plan.Objects = append(plan.Objects, object)
		}
		plan.Decisions = append(plan.Decisions, decision)
	}
	return plan
}

// place decides where the fault goes for the callers of one namespace, and
// renders the object that carries it.
func (s Snapshot) place(d *Decision, e experiments.Experiment) (*unstructured.Unstructured, error) {
	if err := checkSupported(e.Spec); err != nil {
		return nil, err
	}
	if err := s.checkCallers(d.Callers); err != nil {
		return nil, err
	}
	if err := s.checkTarget(d.Host); err != nil {
		return nil, err
	}
	if run, live := s.liveRun(d.Host, d.Callers); live {
		return nil, refuse("wait until it has ended", "run %s already disturbs the calls from %s to %s", run, d.Callers, d.Host)
	}
	found := s.candidates(d.Host, d.Callers)
	conditions, err := conditionsFor(e, d.Callers)
	if err != nil {
		return nil, err
	}
	object := s.newVirtualService(d.Host, d.Callers)
	if len(found) == 0 {
		d.Placement = Plain
		d.Reason = fmt.Sprintf("no VirtualService is in force for %s in %s", d.Host, d.Callers)
		object.Object["spec"] = renderPlain(d.Host, conditions, e)
	} else {
		base := found[0]
		inForce := base.name()
		d.InForce = &inForce
		d.Base = &Version{RefTo(base.Unstructured), base.GetGeneration()}
		if err := s.checkShadow(found, d.Callers); err != nil {
			return nil, err
		}
		spec, err := s.renderShadow(base.Unstructured, d.Host, d.Callers, conditions, e)
		if err != nil {
			return nil, err
		}
		d.Placement = Shadow
		d.Reason = fmt.Sprintf("shadow in %s, outranks %s (%s)", d.Callers, inForce, base.bucket)
		if base.wildcard() {
			d.Reason = fmt.Sprintf("shadow in %s, outranks %s (for %s)", d.Callers, inForce, base.pattern)
		}
		object.Object["spec"] = spec
		if revision := base.GetLabels()[revisionLabel]; revision != "" {
			object.SetLabels(map[string]string{revisionLabel: revision})
		}
	}
	d.Namespace = object.GetNamespace()
	d.ExportTo = stringsAt(object.Object, "spec", "exportTo")
	return object, nil
}

// liveRun gives the run that disturbs the same calls already, if one does.
func (s Snapshot) liveRun(host, callers string) (run string, live bool) {
	for _, vs := range s.VirtualServices {
		if isOurs(vs) && vs.GetNamespace() == callers && vs.GetName() == ObjectName(host, callers) {
			return vs.GetLabels()[RunLabel], true
		}
	}
	return "", false
}

// revisionLabel binds an object to one control-plane revision; istiod of
// another revision does not see it.
const revisionLabel = "istio.io/rev"

// checkCallers refuses a namespace whose proxies would not take a
// VirtualService that stands in it.
func (s Snapshot) checkCallers(namespace string) error {
	labels, exists := s.Namespaces[namespace]
	if !exists {
		return refuse("check spec.callers; kubectl get namespaces lists them", "there is no namespace %s", namespace)
	}
	if labels["istio.io/dataplane-mode"] == "ambient" {
		return refuse("move the callers to sidecars, or name callers that have them", "namespace %s is ambient: its ztunnel knows no VirtualService, so a fault would do nothing", namespace)
	}
	for _, sidecar := range s.Sidecars {
		if sidecar.GetNamespace() != namespace && sidecar.GetNamespace() != s.RootNamespace {
			continue
		}
		if !importsEverything(sidecar) {
			return refuse("this version of Squall plans only where no Sidecar narrows the imports",
				"Sidecar %s/%s narrows what the proxies of %s import, so a VirtualService there might be ignored", sidecar.GetNamespace(), sidecar.GetName(), namespace)
		}
	}
	return nil
}

// useWaypointLabel sends calls to a host through a waypoint, which takes its
// routes from other namespaces than the callers'.
const useWaypointLabel = "istio.io/use-waypoint"

// checkTarget refuses a host whose calls are not routed by the callers' own
// proxies and VirtualServices alone.
func (s Snapshot) checkTarget(host string) error {
	usesWaypoint := func(labels map[string]string, namespace string) bool {
		name, own := labels[useWaypointLabel]
		if !own {
			name = s.Namespaces[namespace][useWaypointLabel]
		}
		return name != "" && name != "none"
	}
	throughWaypoint := refuse("name a target without a waypoint", "calls to %s go through a waypoint, which this version of Squall does not know", host)
	type owner struct{ kind, namespace, name string }
	// A Hostname stands for a host of a ServiceEntry, in any namespace.
	owners := map[owner]bool{{"Hostname", "", host}: true}
	for _, service := range s.Services {
		if strings.EqualFold(host, s.host(service)) {
			owners[owner{"Service", service.Namespace, service.Name}] = true
			if usesWaypoint(service.Labels, service.Namespace) {
				return throughWaypoint
			}
		}
	}
	for _, entry := range s.ServiceEntries {
		if !containsFold(stringsAt(entry.Object, "spec", "hosts"), host) {
			continue
		}
		owners[owner{"ServiceEntry", entry.GetNamespace(), entry.GetName()}] = true
		if usesWaypoint(entry.GetLabels(), entry.GetNamespace()) {
			return throughWaypoint
		}
	}
	for _, route := range s.Routes {
		for _, parent := range mapsAt(mapAt(route.Object, "spec"), "parentRefs") {
			kind, _ := parent["kind"].(string)
			name, _ := parent["name"].(string)
			namespace, _ := parent["namespace"].(string)
			if owners[owner{kind, cmp.Or(namespace, route.GetNamespace()), name}] || owners[owner{kind, "", name}] {
				return refuse("this version of Squall derives shadows from VirtualServices only", "%s %s/%s of the Gateway API routes calls to %s", route.GetKind(), route.GetNamespace(), route.GetName(), host)
			}
		}
	}
	return nil
}

// importsEverything reports whether a Sidecar leaves the imports of its
// proxies as they are without it.
func importsEverything(sidecar *unstructured.Unstructured) bool {
	egress := mapsAt(mapAt(sidecar.Object, "spec"), "egress")
	for _, listener := range egress {
		if !slices.Equal(stringsAt(listener, "hosts"), []string{"*/*"}) {
			return false
		}
	}
	return true
}

// checkShadow refuses bases that a shadow in the callers' namespace would not
// outrank, or could not take the place of.
func (s Snapshot) checkShadow(found []candidate, namespace string) error {
	base := found[0]
	if revision := base.GetLabels()[revisionLabel]; revision != "" && revision != s.Namespaces[namespace][revisionLabel] {
		return refuse("label the namespace with the revision, or remove the label from the VirtualService",
			"VirtualService %s is for the control-plane revision %s only, and namespace %s is not labelled to be of it", base.name(), revision, namespace)
	}
	// An exact host outranks any wildcard, in whatever bucket it is.
	if base.bucket == private && !base.wildcard() {
		return refuse("remove exportTo from it, or name callers in another namespace",
			"VirtualService %s is in force and private to %s, where nothing outranks it", base.name(), namespace)
	}
	routes := mapsAt(mapAt(base.Object, "spec"), "http")
	if len(routes) == 0 {
		return refuse("abort and delay act on HTTP and gRPC only", "VirtualService %s has no http routes, so there is nothing that could carry a fault", base.name())
	}
	for i, route := range routes {
		if route["delegate"] != nil {
			return refuse("this version of Squall does not follow delegates", "http route %d of VirtualService %s is delegated", i+1, base.name())
		}
	}
	for _, other := range found[1:] {
		if other.pattern != base.pattern {
			continue // istiod looks no further than the same host
		}
		if other.GetLabels()[revisionLabel] != base.GetLabels()[revisionLabel] {
			return refuse("remove one of the two", "VirtualServices %s and %s name the same host for different revisions (%s), and which one is in force depends on the proxy", base.name(), other.name(), revisionLabel)
		}
		if !slices.ContainsFunc(routes, isForEveryProxy) {
			return refuse("remove one of the two, or add a route without source conditions", "VirtualService %s has routes for some proxies only, and %s takes over for the others", base.name(), other.name())
		}
	}
	return nil
}

// isForEveryProxy reports whether a route reaches every sidecar and port.
// istiod evaluates port, gateways and the source conditions when it generates
// a proxy's routes; a VirtualService of which nothing is left is skipped
// (istio.io/istio/pilot/pkg/networking/core/route, BuildHTTPRoutesForVirtualService).
func isForEveryProxy(route map[string]any) bool {
	matches := mapsAt(route, "match")
	return len(matches) == 0 || slices.ContainsFunc(matches, isForEverySidecar)
}

// isForEverySidecar reports whether istiod generates a match for every sidecar
// and port. In a match that has gateways it ignores the source conditions
// (route.go, sourceMatchHTTP).
func isForEverySidecar(m map[string]any) bool {
	if m["port"] != nil {
		return false
	}
	if gateways, bound := m["gateways"].([]any); bound {
		return slices.Contains(gateways, any(meshGateway))
	}
	return m["sourceLabels"] == nil && m["sourceNamespace"] == nil
}

// newVirtualService gives the empty object for a host and a namespace of
// callers. Its name is a function of both, so that creating it is also the
// lock: a second run on the same calls finds it taken.
func (s Snapshot) newVirtualService(host, callers string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetAPIVersion(s.APIVersion)
	object.SetKind("VirtualService")
	object.SetNamespace(callers)
	object.SetName(ObjectName(host, callers))
	object.SetAnnotations(map[string]string{HostAnnotation: host, CallersAnnotation: callers})
	return object
}

// ObjectName gives the name of the object that carries a fault on the calls
// from a namespace to a host.
func ObjectName(host, callers string) string {
	sum := sha256.Sum256([]byte(callers + "/" + host))
	label, _, _ := strings.Cut(strings.ReplaceAll(host, ":", "-"), ".")
	if len(label) > 40 {
		label = label[:40]
	}
	return "squall-" + strings.TrimRight(label, "-") + "-" + hex.EncodeToString(sum[:4])
}

func callerNamespaces(callers []experiments.Caller) []string {
	var namespaces []string
	for _, c := range callers {
		if !slices.Contains(namespaces, c.Namespace) {
			namespaces = append(namespaces, c.Namespace)
		}
	}
	return namespaces
}
