package mesh

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/squall-chaos/squall/mesh/objects"
)

// CheckChange returns why a run cannot go on with the objects of a plan after the mesh
// has changed: now is the plan of the same experiment for the new state. It returns nil
// if both have the same objects with the same bases, and only VirtualServices differ,
// which can be updated. Neither plan is refused.
func (p Plan) CheckChange(now Plan) error {
	for i, was := range p.Decisions {
		if i >= len(now.Decisions) {
			break // the objects differ
		}
		if err := was.checkChange(now.Decisions[i]); err != nil {
			return err
		}
	}
	if !slices.Equal(refsOf(p), refsOf(now)) {
		return errors.New("other objects would carry the fault now")
	}
	for i, object := range p.Objects {
		if objects.IsDestination(object.GetKind()) && !reflect.DeepEqual(object.Object["spec"], now.Objects[i].Object["spec"]) {
			return fmt.Errorf("the settings of the calls are different now, and %s has the earlier ones", objects.RefTo(object))
		}
	}
	return nil
}

// checkChange returns why the object of a decision is not what carries the fault after a
// change.
func (d Decision) checkChange(now Decision) error {
	calls := fmt.Sprintf("the calls from %s to %s", d.Callers, d.Host)
	switch {
	case now.Host != d.Host, now.Callers != d.Callers:
		return fmt.Errorf("other calls are disturbed than %s", calls)
	case slices.EqualFunc(d.Bases, now.Bases, func(a, b Version) bool { return a.Ref == b.Ref }):
	case len(now.Bases) == 0:
		return fmt.Errorf("other routes are effective now: no VirtualService has any for %s", calls)
	default:
		return fmt.Errorf("other routes are effective now: %s has those for %s", now.Bases[0].Ref, calls)
	}
	if now.Namespace != d.Namespace || !slices.Equal(now.ExportTo, d.ExportTo) {
		return fmt.Errorf("an object in %s does not take precedence for %s any more", d.Namespace, calls)
	}
	return nil
}

func refsOf(p Plan) []objects.Ref {
	refs := make([]objects.Ref, len(p.Objects))
	for i, object := range p.Objects {
		refs[i] = objects.RefTo(object)
	}
	return refs
}

// IsOlder reports whether a plan was made from an older state of a base than another
// plan of the same experiment.
func (p Plan) IsOlder(other Plan) bool {
	known := map[objects.Ref]int64{}
	for _, d := range other.Decisions {
		for _, base := range d.Bases {
			known[base.Ref] = base.Generation
		}
	}
	return slices.ContainsFunc(p.Decisions, func(d Decision) bool {
		return slices.ContainsFunc(d.Bases, func(base Version) bool { return base.Generation < known[base.Ref] })
	})
}
