package mesh

import (
	"slices"

	"github.com/squall-chaos/squall/experiments"
)

// Callerless gives the hosts whose calls an experiment disturbs without saying
// whose calls.
func (s Snapshot) Callerless(spec experiments.Spec) []string {
	var hosts []string
	for _, fault := range spec.Faults {
		host := s.hostOf(spec.TargetOf(fault))
		if len(spec.CallersOf(fault)) == 0 && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// WithCallers gives a copy of a spec in which the faults that name no callers
// have those of their host.
func (s Snapshot) WithCallers(spec experiments.Spec, callers map[string][]experiments.Caller) experiments.Spec {
	faults := slices.Clone(spec.Faults)
	for i, fault := range faults {
		if len(spec.CallersOf(fault)) == 0 {
			faults[i].Callers = callers[s.hostOf(spec.TargetOf(fault))]
		}
	}
	spec.Faults = faults
	return spec
}

func (s Snapshot) hostOf(target experiments.Target) string {
	host, _ := s.resolveHost(target.Host, target.Namespace)
	return host
}
