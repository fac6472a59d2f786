package mesh

import (
	"slices"

	"github.com/squall-chaos/squall/experiments"
)

// Striking gives the faults of an experiment on the calls from one namespace to
// a host, each with the target, the callers of that namespace and the match that
// it has from the experiment where it has none of its own.
func (s Snapshot) Striking(spec experiments.Spec, host, callers string) []experiments.Fault {
	var faults []experiments.Fault
	for _, f := range spec.Faults {
		target := spec.TargetOf(f)
		from := slices.DeleteFunc(slices.Clone(spec.CallersOf(f)), func(c experiments.Caller) bool { return c.Namespace != callers })
		if s.hostOf(target) != host || len(from) == 0 {
			continue
		}
		f.Target, f.Callers, f.Match = &target, from, spec.MatchOf(f)
		faults = append(faults, f)
	}
	return faults
}
