package runner

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/keep"
)

// plan is the plan of a session as a Keeper follows it.
type plan struct {
	Planned
	session *session
	// rival reports that the mesh had another run on the same calls when it was read
	// last.
	rival bool
}

// Next implements keep.Plan.
func (p plan) Next(after time.Duration) (time.Duration, bool) {
	for _, step := range p.Steps {
		if step.After.Duration > after {
			return step.After.Duration, true
		}
	}
	return 0, false
}

// Follow implements keep.Plan.
func (p plan) Follow(base *unstructured.Unstructured) (keep.Plan, error) {
	return p.become(p.again(p.Snapshot.With(base)))
}

// In implements keep.Plan. Another run on the same calls that has just created its
// object sees the one of this run, and yields. So it counts when it is seen twice.
func (p plan) In(now config.Snapshot) (keep.Plan, error) {
	next := p.again(now.Only(func(object *unstructured.Unstructured) bool { return !p.has(object) }))
	if first, is := next.Refusal(); is && first.Cause == refusal.LiveRun && !p.rival {
		p.rival = true
		return p, nil
	}
	p.rival = false
	return p.become(next)
}

// has reports whether an object is one of the run, also if its labels were removed.
func (p plan) has(object *unstructured.Unstructured) bool {
	return object.GetLabels()[objects.RunLabel] == p.session.run.ID || slices.ContainsFunc(p.Objects, func(own *unstructured.Unstructured) bool {
		return own.GetKind() == object.GetKind() && own.GetNamespace() == object.GetNamespace() && own.GetName() == object.GetName()
	})
}

// become returns the plan after a change of the mesh, which it records. An older state
// of the mesh changes nothing.
func (p plan) become(next Planned) (keep.Plan, error) {
	if next.IsOlder(p.Plan) || reflect.DeepEqual(p.Plan, next.Plan) {
		return p, nil
	}
	if end := permit(p.session.config.Permit, next.Plan); end != nil {
		return nil, fmt.Errorf("it cannot follow: %w", end)
	}
	if err := p.CheckChange(next.Plan); err != nil {
		return nil, err
	}
	p.session.record.Add(event.Planned{Plan: next.Plan})
	return plan{Planned: next, session: p.session}, nil
}
