package mesh

import (
	"github.com/squall-chaos/squall/experiments"
)

// checkSupported refuses what the experiment language knows and this version
// does not inject yet.
func checkSupported(s experiments.Spec) error {
	const hint = "leave it out, or wait for a later version of Squall"
	notYet := func(what string) error { return refuse(hint, "this version of Squall does not know %s yet", what) }
	if len(s.Faults) > 1 {
		return refuse("put abort and delay side by side in one fault, or write an experiment for each", "this version of Squall injects one fault an experiment")
	}
	if s.Target.Subset != "" {
		return notYet("target.subset")
	}
	for _, f := range s.Faults {
		switch {
		case f.Blackhole != nil:
			return notYet("blackholes")
		case f.StartAfter.Duration > 0 || f.Duration.Duration > 0:
			return notYet("faults with times of their own (startAfter, duration)")
		case f.Target != nil || f.Callers != nil || f.Match != nil:
			return notYet("faults with a target, callers or match of their own")
		}
	}
	return nil
}
