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
	"github.com/squall-chaos/squall/mesh/gateway"
)

// Narrow returns the part of a snapshot that the plan of an experiment depends on, so
// that a run does not hold a whole mesh in memory.
func Narrow(s config.Snapshot, spec experiments.Spec) config.Snapshot {
	var targets, hosts, callers []string
	through := gateway.NeedsOf(s, spec, func(bound []*unstructured.Unstructured) []string { return destinations(bound, s.ClusterDomain) })
	for _, injection := range spec.Injections() {
		for _, caller := range injection.Callers {
			callers = append(callers, caller.In())
		}
		if name := hostOf(s, injection); !slices.Contains(targets, name) {
			targets, hosts = append(targets, name), append(hosts, routing.Relatives(s, name)...)
		}
	}
	ports := numbersOf(s, targets)
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
		return isDelegate || through.VirtualService(vs) || names(func(name string) bool { return routing.PatternFor(s, vs, name) != "" }) ||
			slices.ContainsFunc(targets, func(name string) bool { return routing.Forwards(s, vs, name) || hasServerName(vs, name) })
	})
	s.ServiceEntries = keep(s.ServiceEntries, func(entry *unstructured.Unstructured) bool {
		return names(func(name string) bool { return config.HasHost(entry, name) }) || sharesPort(entry, ports) || through.Entry(entry)
	})
	s.DestinationRules = keep(s.DestinationRules, policyOf(s, append(destinations(s.VirtualServices, s.ClusterDomain), hosts...)))
	services := s.Services
	s.Services = nil
	for _, service := range services {
		ofCallers := len(service.Selector) > 0 && slices.Contains(callers, service.Namespace) // see GatewayOf
		if ofCallers || through.Service(s, service) || names(func(name string) bool { return strings.EqualFold(name, s.HostOf(service)) }) {
			s.Services = append(s.Services, service)
		}
	}
	return s
}

// numbersOf returns the port numbers of hosts.
func numbersOf(s config.Snapshot, hosts []string) []int64 {
	var numbers []int64
	for _, name := range hosts {
		for _, port := range config.PortsOf(s.Entries(name)) {
			numbers = append(numbers, port.Number)
		}
	}
	return numbers
}

// sharesPort reports whether proxies may have one listener for connections to a
// ServiceEntry and to others on some ports.
func sharesPort(entry *unstructured.Unstructured, ports []int64) bool {
	spec := fields.Map(entry.Object, "spec")
	return len(fields.Strings(spec, "addresses")) == 0 && slices.ContainsFunc(fields.Maps(spec, "ports"), func(port map[string]any) bool {
		number, _ := fields.Int(port["number"])
		return slices.Contains(ports, number)
	})
}

// hasServerName reports whether a VirtualService has a tls route for a server name.
func hasServerName(vs *unstructured.Unstructured, name string) bool {
	for _, route := range fields.Maps(fields.Map(vs.Object, "spec"), "tls") {
		for _, match := range fields.Maps(route, "match") {
			if slices.ContainsFunc(fields.Strings(match, "sniHosts"), func(sni string) bool { return strings.EqualFold(sni, name) }) {
				return true
			}
		}
	}
	return false
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
