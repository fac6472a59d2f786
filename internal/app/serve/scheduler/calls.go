package scheduler

import (
	"slices"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/mesh"
)

// calls are calls that a run disturbs: those to hosts, and those from namespaces.
// Both lists are sorted.
type calls struct{ hosts, namespaces []string }

// callsOf returns the calls that an experiment disturbs, as far as its file names
// them.
func callsOf(spec experiments.Spec) calls {
	var c calls
	for _, i := range spec.Injections() {
		c.hosts = append(c.hosts, i.Host().Canonical())
		for _, caller := range i.Callers {
			c.namespaces = append(c.namespaces, caller.Namespace)
		}
	}
	return c.compact()
}

// with returns the calls together with the calls of a plan, which has callers that
// the file does not name, and the names that the mesh has for hosts.
func (c calls) with(plan mesh.Plan) calls {
	sum := calls{hosts: slices.Clone(c.hosts), namespaces: slices.Clone(c.namespaces)}
	for _, d := range plan.Decisions {
		sum.hosts = append(sum.hosts, host.Parse(d.Host, "").Canonical())
		sum.namespaces = append(sum.namespaces, d.Callers)
	}
	return sum.compact()
}

// compact sorts the lists and removes duplicates.
func (c calls) compact() calls {
	slices.Sort(c.hosts)
	slices.Sort(c.namespaces)
	return calls{hosts: slices.Compact(c.hosts), namespaces: slices.Compact(c.namespaces)}
}

// Slot is the room that a live run takes up.
type Slot struct {
	experiment string
	calls      calls
}

// Host returns the first host whose calls the run disturbs, as its file has it.
func (s *Slot) Host() string { return s.calls.hosts[0] }
