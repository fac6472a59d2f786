package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/runner/effect"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
)

// preflight is the part of a session that plans, and checks everything before anything
// is created.
type preflight struct{ *session }

// plan plans, and checks everything that the run will need. It changes nothing
// but objects of earlier runs that have expired.
func (s preflight) plan(ctx context.Context) (Planned, *ending) {
	s.record.Add(event.Phase{Name: event.PhasePreflight})
	if schedule := s.experiment.Spec.Schedule; schedule != nil {
		if err := schedule.Permits(time.Now()); err != nil {
			return Planned{}, refused("the schedule permits no start now: "+err.Error(), "wait, or change spec.schedule")
		}
	}
	planned, err := s.planner.Plan(ctx, s.experiment)
	if err != nil {
		return planned, fail(ctx, event.StatusRefused, err)
	}
	if first, is := planned.Refusal(); is && first.Cause == refusal.LiveRun && s.sweep(ctx, planned) {
		if planned, err = s.planner.Plan(ctx, s.experiment); err != nil {
			return planned, fail(ctx, event.StatusRefused, err)
		}
	}
	s.record.Add(event.Planned{Plan: planned.Plan, Warnings: s.warnings(ctx, planned.Plan)})
	if end := permit(s.config.Permit, planned.Plan); end != nil {
		return planned, end
	}
	if end := s.held(ctx, planned); end != nil {
		return planned, end
	}
	if end := s.check(ctx, planned.Plan); end != nil {
		return planned, end
	}
	if s.clock, err = effect.ReadClock(ctx, s.query); err != nil {
		return planned, fail(ctx, event.StatusRefused, hint.With(fmt.Errorf("prometheus: %w", err), "check --prometheus or SQUALL_PROMETHEUS; nothing was injected"))
	}
	if err := s.record.Sync(ctx); err != nil {
		return planned, fail(ctx, event.StatusRefused, hint.With(err, "a run that cannot be recorded does not start; choose another directory with --out"))
	}
	return planned, nil
}

// warnings returns what may be wrong with the callers of a plan. A query that fails does
// not refuse a run: the proof of its effect does not depend on it.
func (s preflight) warnings(ctx context.Context, plan mesh.Plan) []string {
	if _, is := plan.Refusal(); is {
		return nil
	}
	warnings, err := effect.Silent(ctx, s.query, plan.Decisions)
	if err != nil {
		return nil
	}
	return warnings
}

// permit returns the ending of a run whose plan is refused or not permitted, and
// nil for any other plan.
func permit(permitted func(mesh.Plan) error, plan mesh.Plan) *ending {
	if first, is := plan.Refusal(); is {
		return refused(first.Reason, first.Hint)
	}
	err := permitted(plan)
	if err != nil && hint.Of(err) == "" {
		err = hint.With(err, "this limit was set where Squall is deployed")
	}
	if err != nil {
		return &ending{status: event.StatusRefused, err: err}
	}
	return nil
}

// sweep deletes the objects of earlier runs that block the planned calls and are over,
// and reports whether any was deleted. Kubernetes deletes them unless a run went without
// a heartbeat, and only such a run is known to be over from one reading.
func (s preflight) sweep(ctx context.Context, planned Planned) bool {
	snapshot, err := s.config.Cluster.Snapshot(ctx)
	if err != nil {
		return false
	}
	// A snapshot has no Jobs.
	owned := objects.Owned{Unread: []objects.Unread{{Kind: objects.KindJob}}}
	for _, object := range slices.Concat(snapshot.VirtualServices, snapshot.ServiceEntries) {
		if slices.ContainsFunc(planned.Decisions, func(d mesh.Decision) bool {
			return d.Blocker == objects.KeyOf(object) && objects.IsFor(object, d.Host, d.Callers)
		}) {
			owned.Objects = append(owned.Objects, object)
		}
	}
	runs := objects.ActiveRuns(owned)
	new(objects.Expiry).Mark(runs, objects.Reading{Server: time.Now()})
	swept := false
	for _, run := range runs {
		if !run.Expired {
			continue
		}
		for _, ref := range run.Objects {
			deleted := event.Deleted{Object: ref}
			s.record.Add(event.Deleting{Ref: ref})
			if s.record.Sync(ctx) != nil {
				return swept // plan returns the error
			}
			if err := s.config.Cluster.Delete(ctx, ref, run.ID); err != nil && !errors.Is(err, objects.ErrGone) {
				deleted.Error = err.Error()
			}
			swept = swept || deleted.Error == ""
			s.record.Add(deleted)
		}
	}
	return swept
}

// check lets the cluster check every object that the run will create, in each of
// its states.
func (s preflight) check(ctx context.Context, plan mesh.Plan) *ending {
	var all []*unstructured.Unstructured
	if !s.config.WithoutHeartbeat {
		for _, namespace := range slices.Sorted(maps.Keys(kindsIn(plan.Objects))) {
			all = append(all, s.config.heartbeatJob(namespace, s.run))
		}
	}
	for _, object := range plan.Objects {
		all = append(all, objects.Stamp(object, s.run))
	}
	for _, step := range plan.Steps {
		all = append(all, objects.Stamp(step.Object, s.run))
	}
	for _, o := range all {
		checked, err := s.config.Cluster.Check(ctx, o)
		if err == nil {
			err = objects.Compare(o, checked)
		}
		if isChanged(err) {
			return fail(ctx, event.StatusRefused, fmt.Errorf("the cluster would not store what is sent: %w", err))
		}
		if err != nil {
			err = fmt.Errorf("the cluster would not create %s: %w", objects.RefTo(o), err)
			if o.GetKind() == objects.KindJob {
				err = hint.With(err, heartbeat.Hint)
			}
			return fail(ctx, event.StatusRefused, err)
		}
	}
	return nil
}

// unchanged plans again after the baseline. It returns an ending if the plan is a
// different one: its VirtualService would restore routes that are no longer
// effective.
func (s *session) unchanged(ctx context.Context, planned *Planned) *ending {
	snapshot, err := s.config.Cluster.Snapshot(ctx)
	if err != nil {
		return fail(ctx, event.StatusRefused, fmt.Errorf("the mesh configuration cannot be read again: %w", err))
	}
	now := planned.again(mesh.Narrow(snapshot, planned.Experiment.Spec))
	if end := permit(s.config.Permit, now.Plan); end != nil {
		return end
	}
	if !reflect.DeepEqual(planned.Plan, now.Plan) {
		return refused("the routes to the target have changed since the run was planned", "nothing was injected; start again when the change is done")
	}
	*planned = now
	return nil
}
