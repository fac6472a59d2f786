// Package scheduler decides which experiments start, which wait and which starts
// are skipped. It reads no clock, takes no lock and does no I/O: times are
// arguments, and the caller carries out its decisions.
package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/clock"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/schedule"
)

// The reasons why StartNow refuses to start an experiment.
var (
	ErrUnknown   = errors.New("there is no such experiment")
	ErrForbidden = errors.New("not permitted here")
	ErrBusy      = errors.New("not now")
)

// Scheduler holds the experiments and the slots of the live runs. It is not safe
// for concurrent use.
type Scheduler struct {
	limits  Limits
	entries map[string]*Entry
	slots   []*Slot
	// leading reports whether starts by schedule are made.
	leading bool
	// pausedBy is who has paused the starts by schedule; empty when they go on.
	pausedBy string
}

// New returns a scheduler without experiments.
func New(limits Limits) *Scheduler {
	return &Scheduler{limits: limits, entries: map[string]*Entry{}}
}

// Begun is a schedule that begins now: starts that were due before are neither
// made nor skipped.
type Begun struct {
	Experiment string
	// Ignored is the last start as it was stored, if it was so far in the future
	// that a wrong clock must have stored it.
	Ignored time.Time
}

// Set replaces the experiments, by name. It returns the names of those that are
// gone. While the scheduler leads, a schedule that is new or has changed begins
// at now.
func (s *Scheduler) Set(entries map[string]*Entry, now time.Time) (gone []string, begun []Begun) {
	for name := range s.entries {
		if entries[name] == nil {
			gone = append(gone, name)
		}
	}
	for name, one := range entries {
		known := s.entries[name]
		if known != nil {
			one.handled = known.handled
			if reflect.DeepEqual(known.experiment, one.experiment) {
				one.waiting = known.waiting
			}
		}
		changed := known == nil || !reflect.DeepEqual(known.experiment.Spec.Schedule, one.experiment.Spec.Schedule)
		if s.leading && changed && now.After(one.handled) {
			one.handled = now
			begun = append(begun, Begun{Experiment: name})
		}
	}
	s.entries = entries
	return gone, begun
}

// Lead makes the scheduler go on from the starts that were handled so far, by
// name and nominal time. A schedule without one begins at now.
func (s *Scheduler) Lead(handled map[string]time.Time, now time.Time) (begun []Begun) {
	s.leading = true
	for name, one := range s.entries {
		one.handled = handled[name]
		start := Begun{Experiment: name}
		if clock.IsAhead(one.handled, now) {
			start.Ignored, one.handled = one.handled, time.Time{}
		}
		if one.handled.IsZero() {
			one.handled = now
			begun = append(begun, start)
		}
	}
	return begun
}

// StandDown ends the starts by schedule.
func (s *Scheduler) StandDown() { s.leading = false }

// Leading reports whether starts by schedule are made here.
func (s *Scheduler) Leading() bool { return s.leading }

// Pause lets all starts by schedule be skipped, on behalf of by; empty lets them
// be made again. It reports whether that is a change.
func (s *Scheduler) Pause(by string) (changed bool) {
	changed = s.pausedBy != by
	s.pausedBy = by
	return changed
}

// PausedBy returns who has paused the starts by schedule; empty when they go on.
func (s *Scheduler) PausedBy() string { return s.pausedBy }

// Due decides on all starts that are due. It also returns when the next start is
// due, or the zero time.
func (s *Scheduler) Due(now time.Time) (decisions []Decision, next time.Time) {
	if !s.leading {
		return nil, time.Time{}
	}
	for _, name := range s.Names() {
		one := s.entries[name]
		if one.schedule == nil {
			continue
		}
		if due, ok := one.schedule.Due(one.handled, now); ok {
			decisions = append(decisions, s.decide(name, one, due, now))
		}
		if start, ok := one.next(); ok && start.At.After(now) && (next.IsZero() || start.At.Before(next)) {
			next = start.At
		}
	}
	return decisions, next
}

// decide decides on a start that is due.
func (s *Scheduler) decide(name string, one *Entry, due schedule.Due, now time.Time) Decision {
	if why := s.skips(name, one, due, now); why != nil {
		return Skip{Experiment: name, Nominal: due.Nominal, Why: why, Overtaken: one.handle(due)}
	}
	if s.isLive(name) && one.experiment.Spec.Schedule.ConcurrencyPolicy == experiments.Replace {
		one.waiting = &BlockedError{Reason: Concurrency, Text: "its last run is ending"}
		return Wait{Experiment: name, Why: one.waiting, Replaces: true}
	}
	slot, err := s.take(one)
	if err != nil {
		one.waiting = err
		return Wait{Experiment: name, Why: err}
	}
	return Start{Experiment: one.experiment, Nominal: due.Nominal, Lag: now.Sub(due.At), Slot: slot, Overtaken: one.handle(due)}
}

// skips returns why a start that is due must be skipped, or nil.
func (s *Scheduler) skips(name string, one *Entry, due schedule.Due, now time.Time) error {
	planned := one.experiment.Spec.Schedule
	switch {
	case s.pausedBy != "":
		return &BlockedError{Reason: Paused, Text: "paused by " + s.pausedBy}
	case one.forbidden != nil:
		return one.forbidden
	case due.Skip != nil && one.waiting != nil:
		return &BlockedError{Reason: ReasonOf(one.waiting), Text: due.Skip.Error() + ", after it has waited: " + one.waiting.Error()}
	case due.Skip != nil && now.Sub(due.At) > planned.StartingDeadline.Duration:
		return &BlockedError{Reason: Deadline, Text: due.Skip.Error()}
	case due.Skip != nil:
		return &BlockedError{Reason: Window, Text: due.Skip.Error()}
	case s.isLive(name) && planned.ConcurrencyPolicy == experiments.Forbid:
		return &BlockedError{Reason: Concurrency, Text: "its last run has not ended"}
	default:
		return nil
	}
}

// handle marks a start as handled, and the earlier ones that it overtakes, which
// may have come due while it waited.
func (e *Entry) handle(due schedule.Due) Overtaken {
	overtaken := Overtaken{Count: due.Missed, Reason: Deadline}
	if e.waiting != nil {
		overtaken.Reason = ReasonOf(e.waiting)
	}
	e.handled, e.waiting = due.Nominal, nil
	return overtaken
}

// StartNow takes a slot for an experiment, whatever its schedule says. The error
// wraps ErrUnknown, ErrForbidden or ErrBusy.
func (s *Scheduler) StartNow(name string, now time.Time) (experiments.Experiment, *Slot, error) {
	one := s.entries[name]
	switch {
	case one == nil:
		return experiments.Experiment{}, nil, ErrUnknown
	case one.forbidden != nil:
		return experiments.Experiment{}, nil, fmt.Errorf("%w: %w", ErrForbidden, one.forbidden)
	}
	if planned := one.experiment.Spec.Schedule; planned != nil {
		if err := planned.Permits(now); err != nil {
			return experiments.Experiment{}, nil, fmt.Errorf("%w: %w", ErrForbidden, err)
		}
	}
	slot, err := s.take(one)
	if err != nil {
		return experiments.Experiment{}, nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return one.experiment, slot, nil
}

// take takes a slot for an experiment. The error is a BlockedError.
func (s *Scheduler) take(one *Entry) (*Slot, error) {
	slot := &Slot{experiment: one.experiment.Metadata.Name, calls: callsOf(one.experiment.Spec)}
	if err := s.limits.room(slot.calls, s.live(nil)); err != nil {
		return nil, err
	}
	s.slots = append(s.slots, slot)
	return slot, nil
}

// Widen adds the calls that a plan disturbs to a slot. The error is a BlockedError:
// the limits forbid the plan, or there is no room for it.
func (s *Scheduler) Widen(slot *Slot, plan mesh.Plan) error {
	if err := s.limits.permitsPlan(plan); err != nil {
		return err
	}
	wanted := slot.calls.with(plan)
	if err := s.limits.room(wanted, s.live(slot)); err != nil {
		return err
	}
	slot.calls = wanted
	return nil
}

// Release frees a slot.
func (s *Scheduler) Release(slot *Slot) {
	s.slots = slices.DeleteFunc(s.slots, func(other *Slot) bool { return other == slot })
}

// live returns the calls that the live runs disturb, except for the calls of one slot.
func (s *Scheduler) live(except *Slot) []calls {
	all := make([]calls, 0, len(s.slots))
	for _, slot := range s.slots {
		if slot != except {
			all = append(all, slot.calls)
		}
	}
	return all
}

// isLive reports whether an experiment has a live run.
func (s *Scheduler) isLive(experiment string) bool {
	return slices.ContainsFunc(s.slots, func(slot *Slot) bool { return slot.experiment == experiment })
}

// Next returns when the next start of an experiment is due. It reports false
// when there is none, and when the scheduler does not lead.
func (s *Scheduler) Next(name string) (time.Time, bool) {
	one := s.entries[name]
	if one == nil || !s.leading {
		return time.Time{}, false
	}
	next, ok := one.next()
	return next.At, ok
}

// Names returns the names of the experiments, sorted.
func (s *Scheduler) Names() []string { return slices.Sorted(maps.Keys(s.entries)) }

// Statuses returns all experiments, sorted by name.
func (s *Scheduler) Statuses(now time.Time) []Status {
	statuses := make([]Status, 0, len(s.entries))
	for _, name := range s.Names() {
		statuses = append(statuses, s.entries[name].status(name, now))
	}
	return statuses
}
