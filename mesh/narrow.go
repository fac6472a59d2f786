package mesh

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/istio/routing"
)

// Narrow returns the part of a snapshot that the plan of an experiment depends on, so
// that a run does not hold a whole mesh in memory.
func Narrow(s config.Snapshot, spec experiments.Spec) config.Snapshot {
	var targets, hosts []string
	for _, injection := range spec.Injections() {
		if name := hostOf(s, injection); !slices.Contains(targets, name) {
			targets, hosts = append(targets, name), append(hosts, routing.Relatives(s, name)...)
		}
	}
	names := func(of func(name string) bool) bool { return slices.ContainsFunc(hosts, of) }
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
		return isDelegate || names(func(name string) bool { return routing.PatternFor(s, vs, name) != "" }) ||
			slices.ContainsFunc(targets, func(name string) bool { return routing.Forwards(s, vs, name) })
	})
	s.ServiceEntries = keep(s.ServiceEntries, func(entry *unstructured.Unstructured) bool {
		return names(func(name string) bool { return config.HasHost(entry, name) })
	})
	s.DestinationRules = keep(s.DestinationRules, policyOf(s, append(destinations(s.VirtualServices, s.ClusterDomain), hosts...)))
	services := s.Services
	s.Services = nil
	for _, service := range services {
		if names(func(name string) bool { return strings.EqualFold(name, s.HostOf(service)) }) {
			s.Services = append(s.Services, service)
		}
	}
	return s
}

// policyOf returns a function that reports whether a DestinationRule is for any of
// some hosts.
func policyOf(s config.Snapshot, hosts []string) func(*unstructured.Unstructured) bool {
	return func(rule *unstructured.Unstructured) bool {
		of := host.Qualify(fields.String(fields.Map(rule.Object, "spec"), "host"), rule.GetNamespace(), s.ClusterDomain)
		return slices.ContainsFunc(hosts, func(name string) bool { return config.HostWithin(name, of) })
	}
}

// destinations returns the hosts that the routes of VirtualServices lead to.
func destinations(all []*unstructured.Unstructured, domain string) []string {
	var hosts []string
	for _, vs := range all {
		for _, protocol := range []string{"http", "tcp", "tls"} {
			for _, route := range fields.Maps(fields.Map(vs.Object, "spec"), protocol) {
				for _, weighted := range fields.Maps(route, "route") {
					hosts = append(hosts, host.Qualify(fields.String(fields.Map(weighted, "destination"), "host"), vs.GetNamespace(), domain))
				}
			}
		}
	}
	return hosts
}
