package config

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
)

// DomainError says that the cluster domain may be another one than a snapshot has.
type DomainError struct {
	// Assumed is the domain of the snapshot.
	Assumed string
	// Others are the domains that it may be.
	Others []string
	// By is the object that names a Service in another domain; empty if the control
	// planes have several domains.
	By string
}

func (e *DomainError) Error() string {
	others := strings.Join(e.Others, ", ")
	if e.By == "" {
		return fmt.Sprintf("the control planes have different cluster domains: %s, %s", e.Assumed, others)
	}
	return fmt.Sprintf("the cluster domain is not known and may be %s, not %s: %s names a Service so", others, e.Assumed, e.By)
}

// setDomain sets the cluster domain: the user's, else the one of the control planes. If
// neither is known, it is Kubernetes' default, unless the objects contradict that.
func setDomain(s *Snapshot, o Overrides) {
	if o.ClusterDomain != "" {
		s.ClusterDomain = host.Normalize(o.ClusterDomain)
		return
	}
	var domains []string
	for _, plane := range s.ControlPlanes {
		if domain := host.Normalize(plane.ClusterDomain); domain != "" && !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	switch len(domains) {
	case 0:
		s.Doubt = otherDomain(s)
	case 1:
		s.ClusterDomain = domains[0]
	default:
		s.ClusterDomain = domains[0]
		s.Doubt = &DomainError{Assumed: domains[0], Others: domains[1:]}
	}
}

// otherDomain returns an error if objects name Services in another cluster domain, and
// none names one in the domain of the snapshot.
func otherDomain(s *Snapshot) *DomainError {
	type service struct{ name, namespace string }
	services := map[service]bool{}
	for _, known := range s.Services {
		services[service{name: known.Name, namespace: known.Namespace}] = true
	}
	var doubt *DomainError
	for _, objects := range [][]*unstructured.Unstructured{s.VirtualServices, s.DestinationRules} {
		for _, object := range objects {
			for _, name := range hostsIn(object) {
				labels := strings.SplitN(host.Normalize(name), ".", 4)
				if len(labels) < 4 || labels[2] != "svc" || !services[service{name: labels[0], namespace: labels[1]}] {
					continue
				}
				if labels[3] == s.ClusterDomain {
					return nil
				}
				if doubt == nil {
					doubt = &DomainError{Assumed: s.ClusterDomain, Others: []string{labels[3]}, By: fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())}
				}
			}
		}
	}
	return doubt
}

// hostsIn returns the hosts that a VirtualService or a DestinationRule is for, and
// those that its HTTP routes lead to.
func hostsIn(object *unstructured.Unstructured) []string {
	spec := fields.Map(object.Object, "spec")
	hosts := append(fields.Strings(spec, "hosts"), fields.String(spec, "host"))
	for _, route := range fields.Maps(spec, "http") {
		for _, weighted := range fields.Maps(route, "route") {
			hosts = append(hosts, fields.String(fields.Map(weighted, "destination"), "host"))
		}
	}
	return hosts
}
