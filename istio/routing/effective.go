// Package routing computes the routes that proxies use for a host: which
// VirtualService is effective for which proxies, with delegates resolved, and
// which one would take precedence over it.
//
// It is pure, and follows istiod's code; each rule names its source.
package routing

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
)

// MeshGateway is the reserved name of a gateway that means all sidecars.
const MeshGateway = "mesh"

// Candidate is a VirtualService that could be effective for a host.
type Candidate struct {
	*unstructured.Unstructured
	Visibility config.Visibility
	// Pattern is the host by which it names the target: the target itself, or the
	// most specific of its wildcards.
	Pattern string
}

// IsWildcard reports whether the target is named only by a wildcard.
func (c Candidate) IsWildcard() bool { return strings.HasPrefix(c.Pattern, "*") }

// Name returns namespace/name.
func (c Candidate) Name() string { return c.GetNamespace() + "/" + c.GetName() }

// Candidates returns the VirtualServices that an egress listener of the proxies
// in a namespace could take the routes of a host from, the effective one first:
// an exact host before any wildcard, a longer wildcard before a shorter one
// (istio.io/istio/pilot/pkg/model, computeWildcardHostVirtualServiceIndex), then
// by visibility, then by age. All that have the same pattern as the first are
// returned: where an exact one has no route for a proxy, the next one is used.
func Candidates(s config.Snapshot, name, namespace string, l config.Listener) []Candidate {
	var found []Candidate
	for _, vs := range s.VirtualServices {
		if !AppliesToSidecars(vs) {
			continue
		}
		visibility := s.VisibilityOf(vs, namespace)
		if visibility == config.Hidden || !l.ImportsVirtualService(vs.GetNamespace(), Hosts(s, vs)) {
			continue
		}
		if pattern := PatternFor(s, vs, name); pattern != "" {
			found = append(found, Candidate{Unstructured: vs, Visibility: visibility, Pattern: pattern})
		}
	}
	slices.SortFunc(found, func(a, b Candidate) int {
		return cmp.Or(
			CompareBool(a.IsWildcard(), b.IsWildcard()),
			cmp.Compare(len(b.Pattern), len(a.Pattern)),
			cmp.Compare(a.Visibility, b.Visibility),
			config.CompareAge(a.Unstructured, b.Unstructured),
		)
	})
	return slices.DeleteFunc(found, func(c Candidate) bool {
		return !strings.EqualFold(c.Pattern, found[0].Pattern) && !c.ambiguousWith(found[0], name)
	})
}

// ambiguousWith reports whether a wildcard is next to an exact host that is
// written in another case. istiod does not tell the two apart, and uses the one
// that it finds first.
func (c Candidate) ambiguousWith(exact Candidate, name string) bool {
	return c.IsWildcard() && !exact.IsWildcard() && exact.Pattern != name
}

// Hosts returns the hosts of a VirtualService, fully qualified, in their own
// case.
func Hosts(s config.Snapshot, vs *unstructured.Unstructured) []string {
	hosts := fields.Strings(vs.Object, "spec", "hosts")
	for i, h := range hosts {
		hosts[i] = host.Qualify(h, vs.GetNamespace(), s.ClusterDomain)
	}
	return hosts
}

// PatternFor returns the most specific of the hosts of a VirtualService that match
// a host, or an empty string if none does. An exact one matches in any case, a
// wildcard only in the host's own
// (istio.io/istio/pilot/pkg/networking/core/route, separateVSHostsAndServices).
func PatternFor(s config.Snapshot, vs *unstructured.Unstructured, name string) string {
	best := ""
	for _, h := range Hosts(s, vs) {
		if strings.EqualFold(h, name) {
			return h
		}
		if suffix, ok := strings.CutPrefix(h, "*"); ok && strings.HasSuffix(name, suffix) && len(h) > len(best) {
			best = h
		}
	}
	return best
}

// AppliesToSidecars reports whether a VirtualService is bound to the mesh, as it
// is when it names no gateway.
func AppliesToSidecars(vs *unstructured.Unstructured) bool {
	gateways := fields.Strings(vs.Object, "spec", "gateways")
	return len(gateways) == 0 || slices.Contains(gateways, MeshGateway)
}

// CompareBool orders false before true.
func CompareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// Effective is what routes the calls of some proxies to a host.
type Effective struct {
	// Base is the VirtualService, or nil where istiod's default route is used.
	Base *Candidate
	// Routes are its HTTP routes with delegates replaced by their children's, and
	// Delegates these children.
	Routes    []map[string]any
	Delegates []*unstructured.Unstructured
	// Skipped are the VirtualServices of the same host that istiod skips because
	// they have no route for these proxies.
	Skipped []Candidate
}

// Find returns what is effective for some proxies in an egress listener. istiod
// skips a VirtualService that has no route for a proxy, but looks at no wildcard
// other than the most specific one
// (istio.io/istio/pilot/pkg/networking/core/route,
// buildSidecarVirtualHostsForVirtualService).
//
// The error is an *UndecidedError if different proxies of the set use different
// routes, or if which routes they use cannot be known. Base is then the first
// candidate that is affected.
func Find(s config.Snapshot, name string, p Proxies, l config.Listener) (Effective, error) {
	var skipped []Candidate
	found := Candidates(s, name, p.Namespace, l)
	for _, c := range found {
		if c.ambiguousWith(found[0], name) {
			return Effective{Base: &found[0]}, &UndecidedError{Why: AmbiguousCase, Candidate: found[0], Other: &c}
		}
	}
	for _, c := range found {
		if err := checkRevision(s, c, p.Namespace); err != nil {
			return Effective{Base: &c}, err
		}
		routes, delegates := HTTPRoutes(s, c.Unstructured)
		for _, child := range delegates {
			if err := checkRevision(s, Candidate{Unstructured: child, Visibility: c.Visibility, Pattern: c.Pattern}, p.Namespace); err != nil {
				return Effective{Base: &c}, err
			}
		}
		switch p.CoveredBy(routes) {
		case All:
			if other := rivalOfUnknownAge(s, c, found, p); other != nil {
				return Effective{Base: &c}, &UndecidedError{Why: UnknownAge, Candidate: c, Other: other}
			}
			return Effective{Base: &c, Routes: routes, Delegates: delegates, Skipped: skipped}, nil
		case Some:
			return Effective{Base: &c}, &UndecidedError{Why: RoutesForSome, Candidate: c}
		case None:
			if c.IsWildcard() {
				return Effective{Base: &c}, &UndecidedError{Why: WildcardWithoutRoutes, Candidate: c}
			}
			skipped = append(skipped, c)
		}
	}
	return Effective{Skipped: skipped}, nil
}

// rivalOfUnknownAge returns a candidate that is effective in place of another one if
// it is older, which is not known: it has the same host and the same visibility, and
// other routes for the proxies. It returns nil if there is none.
func rivalOfUnknownAge(s config.Snapshot, c Candidate, candidates []Candidate, p Proxies) *Candidate {
	for _, other := range candidates {
		created, known := other.GetCreationTimestamp(), c.GetCreationTimestamp()
		switch {
		case other.Unstructured == c.Unstructured, other.Visibility != c.Visibility, other.Pattern != c.Pattern, !created.IsZero() && !known.IsZero():
			continue
		case reflect.DeepEqual(fields.Map(other.Object, "spec"), fields.Map(c.Object, "spec")):
			continue
		}
		if routes, _ := HTTPRoutes(s, other.Unstructured); p.CoveredBy(routes) != None {
			return &other
		}
	}
	return nil
}

// checkRevision returns an error for a VirtualService that istiod of another
// revision reads, as far as the namespace's labels tell. A snapshot for a control plane
// whose revision is certain has none.
func checkRevision(s config.Snapshot, c Candidate, namespace string) error {
	revision := c.GetLabels()[config.RevisionLabel]
	if revision == "" || s.Plane.Labelled || revision == s.Namespaces[namespace][config.RevisionLabel] {
		return nil
	}
	return &UndecidedError{Why: OtherRevision, Candidate: c, Revision: revision}
}

// Why is why the routes of a set of proxies cannot be decided.
type Why int

// The reasons.
const (
	// AmbiguousCase: an exact host in another case is next to a wildcard, Other.
	AmbiguousCase Why = iota
	// OtherRevision: the VirtualService is bound to another revision.
	OtherRevision
	// RoutesForSome: it has routes for some of the proxies or ports only.
	RoutesForSome
	// WildcardWithoutRoutes: it is a wildcard that has no route for the proxies.
	WildcardWithoutRoutes
	// UnknownAge: the older of the VirtualService and Other is effective, and the
	// creation time of one of them is not known.
	UnknownAge
)

// UndecidedError says why the routes of a set of proxies cannot be decided.
type UndecidedError struct {
	Why Why
	// Candidate is the VirtualService that it is about.
	Candidate Candidate
	// Other is set for AmbiguousCase and UnknownAge, Revision for OtherRevision.
	Other    *Candidate
	Revision string
}

func (e *UndecidedError) Error() string {
	switch e.Why {
	case AmbiguousCase:
		return "VirtualService " + e.Candidate.Name() + " names " + e.Candidate.Pattern + " in another case next to " + e.Other.Name()
	case OtherRevision:
		return "VirtualService " + e.Candidate.Name() + " is for the revision " + e.Revision
	case RoutesForSome:
		return "VirtualService " + e.Candidate.Name() + " has routes for some proxies or ports only"
	case WildcardWithoutRoutes:
		return "VirtualService " + e.Candidate.Name() + " has no route for the proxies"
	case UnknownAge:
		return "VirtualServices " + e.Candidate.Name() + " and " + e.Other.Name() + " are for the same host, and their ages are not known"
	default:
		return "the routes cannot be decided"
	}
}
