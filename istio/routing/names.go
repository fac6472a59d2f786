package routing

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
)

// httpPort is the port on which proxies route hosts of VirtualServices for which
// there is no Service (istio.io/istio/pilot/pkg/networking/core, the case of port 80
// in BuildSidecarOutboundVirtualHosts).
const httpPort = 80

// OtherNames returns the VirtualServices that route calls of some proxies to a host
// when they use another name for it: a short one such as service.namespace, or an
// ExternalName Service. The virtual host of the VirtualService that comes first has
// the name (istio.io/istio/pilot/pkg/networking/core, generateVirtualHostDomains and
// dedupeDomains); base is the effective one for the host, nil if there is none. The
// Pattern of a candidate is the other name.
func OtherNames(s config.Snapshot, name string, p Proxies, l config.Listener, base *Candidate) []Candidate {
	names := otherNames(s, name)
	var found []Candidate
	for _, vs := range s.VirtualServices {
		c := Candidate{Unstructured: vs, Visibility: s.VisibilityOf(vs, p.Namespace)}
		if base != nil && (base.Unstructured == vs || !MayComeBefore(c, *base)) {
			continue
		}
		if !AppliesToSidecars(vs) || c.Visibility == config.Hidden || !l.ImportsVirtualService(vs.GetNamespace(), Hosts(s, vs)) {
			continue
		}
		for _, own := range Hosts(s, vs) {
			if !names[host.Normalize(own)] || !p.calls(s, own) {
				continue
			}
			if routes, _ := HTTPRoutes(s, vs); p.CoveredBy(routes) != None {
				c.Pattern = own
				found = append(found, c)
				break
			}
		}
	}
	return found
}

// Unregistered returns the VirtualServices that proxies of a namespace use for a host
// that is not in the registry, on port 80 (istio.io/istio/pilot/pkg/networking/core/route,
// separateVSHostsAndServices).
func Unregistered(s config.Snapshot, name, namespace string) []Candidate {
	var found []Candidate
	for _, vs := range s.VirtualServices {
		c := Candidate{Unstructured: vs, Visibility: s.VisibilityOf(vs, namespace), Pattern: PatternFor(s, vs, name)}
		if c.Pattern != "" && !c.IsWildcard() && AppliesToSidecars(vs) && c.Visibility != config.Hidden {
			found = append(found, c)
		}
	}
	return found
}

// calls reports whether the proxies may have routes for a host of a VirtualService:
// on any port if the host is in the registry, else on port 80.
func (p Proxies) calls(s config.Snapshot, name string) bool {
	return len(p.Ports) == 0 || slices.Contains(p.Ports, httpPort) || len(s.Entries(name)) > 0
}

// MayComeBefore reports whether istiod may go through a VirtualService before another
// one (istio.io/istio/pilot/pkg/model, SelectVirtualServices): also if their ages
// decide and are not known.
func MayComeBefore(a, b Candidate) bool {
	created, other := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if a.Visibility == b.Visibility && (created.IsZero() || other.IsZero()) {
		return true
	}
	return cmp.Or(cmp.Compare(a.Visibility, b.Visibility), config.CompareAge(a.Unstructured, b.Unstructured)) < 0
}

// Relatives returns a host, its other names, and the host that it leads to.
func Relatives(s config.Snapshot, name string) []string {
	related := []string{name}
	for other := range otherNames(s, name) {
		related = append(related, other)
	}
	if concrete := Concrete(s, name); concrete != "" && concrete != name {
		related = append(related, concrete)
	}
	return related
}

// Forwards reports whether a VirtualService has an HTTP route to a host.
func Forwards(s config.Snapshot, vs *unstructured.Unstructured, name string) bool {
	for _, route := range fields.Maps(fields.Map(vs.Object, "spec"), "http") {
		for _, weighted := range fields.Maps(route, "route") {
			to := host.Qualify(fields.String(fields.Map(weighted, "destination"), "host"), vs.GetNamespace(), s.ClusterDomain)
			if strings.EqualFold(to, name) {
				return true
			}
		}
	}
	return false
}

// otherNames returns the names by which proxies may call a host, but for the host
// itself: its short forms, its aliases, and their short forms. A name without a dot is
// not among them, because a VirtualService cannot have it: istiod completes it.
func otherNames(s config.Snapshot, name string) map[string]bool {
	names := map[string]bool{}
	aliases := Aliases(s, name)
	for _, full := range append([]string{name}, aliases...) {
		for _, short := range shortForms(full, s.ClusterDomain) {
			names[short] = true
		}
	}
	for _, alias := range aliases {
		names[alias] = true
	}
	delete(names, host.Normalize(name))
	return names
}

// shortForms returns the names with a dot by which proxies may call a Service
// (istio.io/istio/pilot/pkg/networking/core,
// generateAltVirtualHostsForKubernetesService).
func shortForms(name, domain string) []string {
	prefix, isService := strings.CutSuffix(host.Normalize(name), ".svc."+domain)
	if !isService || strings.Count(prefix, ".") != 1 {
		return nil
	}
	return []string{prefix, prefix + ".svc"}
}

// Aliases returns the hosts of the ExternalName Services that lead to a host, through
// other ones too (istio.io/istio/pilot/pkg/model, resolveServiceAliases).
func Aliases(s config.Snapshot, name string) []string {
	var aliases []string
	for _, service := range s.Services {
		if alias := s.HostOf(service); service.ExternalName != "" && strings.EqualFold(Concrete(s, alias), name) && !strings.EqualFold(alias, name) {
			aliases = append(aliases, alias)
		}
	}
	return aliases
}

// Concrete returns the host that an ExternalName Service leads to, through other ones
// too; any other host as it is. It returns an empty string for a circle.
func Concrete(s config.Snapshot, name string) string {
	seen := map[string]bool{}
	for {
		next := ""
		for _, service := range s.Services {
			if service.ExternalName != "" && strings.EqualFold(s.HostOf(service), name) {
				next = host.Normalize(service.ExternalName)
			}
		}
		switch {
		case next == "":
			return name
		case seen[next]:
			return ""
		}
		seen[next] = true
		name = next
	}
}
