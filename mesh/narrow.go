package mesh

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
)

// Narrow returns the part of a snapshot that the plan of an experiment depends on, so
// that a run does not hold a whole mesh in memory.
func Narrow(s config.Snapshot, spec experiments.Spec) config.Snapshot {
	var hosts []string
	for _, injection := range spec.Injections() {
		hosts = append(hosts, hostOf(s, injection))
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
		isDelegate := len(fields.Strings(vs.Object, "spec", "hosts")) == 0
		return isDelegate || names(func(host string) bool { return routing.PatternFor(s, vs, host) != "" })
	})
	s.ServiceEntries = keep(s.ServiceEntries, func(entry *unstructured.Unstructured) bool {
		return names(func(host string) bool { return config.HasHost(entry, host) })
	})
	services := s.Services
	s.Services = nil
	for _, service := range services {
		if names(func(host string) bool { return host == s.HostOf(service) }) {
			s.Services = append(s.Services, service)
		}
	}
	return s
}
