package mesh

import (
	"slices"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
)

// Callerless returns the hosts to which an experiment disturbs calls without naming
// the callers.
func Callerless(s config.Snapshot, spec experiments.Spec) []string {
	var hosts []string
	for _, injection := range spec.Injections() {
		host := hostOf(s, injection)
		if len(injection.Callers) == 0 && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// WithCallers returns a copy of a spec in which faults without callers have the
// given callers of their host.
func WithCallers(s config.Snapshot, spec experiments.Spec, callers map[string][]experiments.Caller) experiments.Spec {
	faults := slices.Clone(spec.Faults)
	for _, injection := range spec.Injections() {
		if len(injection.Callers) == 0 {
			faults[injection.Number].Callers = callers[hostOf(s, injection)]
		}
	}
	spec.Faults = faults
	return spec
}

// hostOf returns the host of an injection as the mesh knows it.
func hostOf(s config.Snapshot, i experiments.Injection) string {
	name, _ := s.Resolve(i.Host())
	return name
}
