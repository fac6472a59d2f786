package mesh

import (
	"slices"

	"github.com/squall-chaos/squall/experiments"
)

// Callerless gives the hosts whose calls an experiment disturbs without saying
// whose calls.
func (s Snapshot) Callerless(spec experiments.Spec) []string {
	var hosts []string
	for _, injection := range spec.Injections() {
		host := s.hostOf(injection)
		if len(injection.Callers) == 0 && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// WithCallers gives a copy of a spec in which the faults that name no callers
// have those of their host.
func (s Snapshot) WithCallers(spec experiments.Spec, callers map[string][]experiments.Caller) experiments.Spec {
	faults := slices.Clone(spec.Faults)
	for _, injection := range spec.Injections() {
		if len(injection.Callers) == 0 {
			faults[injection.Number].Callers = callers[s.hostOf(injection)]
		}
	}
	spec.Faults = faults
	return spec
}

// hostOf returns the host of an injection as the mesh knows it.
func (s Snapshot) hostOf(i experiments.Injection) string {
	name, _ := s.resolve(i.Host())
	return name
}
