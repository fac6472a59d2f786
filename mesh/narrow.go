package mesh

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
)

// Narrow gives the part of a snapshot that an experiment's plan depends on, so
// that a run need not hold a whole mesh.
func (s Snapshot) Narrow(spec experiments.Spec) Snapshot {
	var hosts []string
	for _, injection := range spec.Injections() {
		hosts = append(hosts, s.hostOf(injection))
	}
	names := func(of func(host string) bool) bool { return slices.ContainsFunc(hosts, of) }
	keep := func(objects []*unstructured.Unstructured, wanted func(*unstructured.Unstructured) bool) []*unstructured.Unstructured {
		var kept []*unstructured.Unstructured
		for _, object := range objects {
			if wanted(object) {
				kept = append(kept, object)
			}
		}
		return kept
	}
	s.VirtualServices = keep(s.VirtualServices, func(vs *unstructured.Unstructured) bool {
		isDelegate := len(stringsAt(vs.Object, "spec", "hosts")) == 0
		return isDelegate || names(func(host string) bool { return s.patternFor(vs, host) != "" })
	})
	s.ServiceEntries = keep(s.ServiceEntries, func(entry *unstructured.Unstructured) bool {
		return names(func(host string) bool { return containsFold(stringsAt(entry.Object, "spec", "hosts"), host) })
	})
	services := s.Services
	s.Services = nil
	for _, service := range services {
		if names(func(host string) bool { return host == s.serviceHost(service) }) {
			s.Services = append(s.Services, service)
		}
	}
	return s
}

// With gives a copy of the snapshot in which a VirtualService is as given.
func (s Snapshot) With(vs *unstructured.Unstructured) Snapshot {
	s.VirtualServices = slices.Clone(s.VirtualServices)
	for i, old := range s.VirtualServices {
		if old.GetNamespace() == vs.GetNamespace() && old.GetName() == vs.GetName() {
			s.VirtualServices[i] = vs
		}
	}
	return s
}

// Expired gives the objects of runs whose time is over, VirtualServices first.
// The clocks of two machines may differ; an object that is not far beyond its
// expiry is left alone.
func (s Snapshot) Expired(now time.Time) []*unstructured.Unstructured {
	var expired []*unstructured.Unstructured
	for _, object := range slices.Concat(s.VirtualServices, s.ServiceEntries) {
		expires, err := time.Parse(time.RFC3339, object.GetAnnotations()[ExpiresAnnotation])
		if isOurs(object) && err == nil && now.Sub(expires) > clockTolerance {
			expired = append(expired, object)
		}
	}
	return expired
}

// clockTolerance is how far two clocks may differ.
const clockTolerance = 5 * time.Minute
