// Package schedule computes the starts of an experiment. It does not read the
// clock: every time is an argument.
//
// robfig/cron parses the expression, but its Next is not used. It fires twice when
// a clock is set back, loses the starts of a day after a change by half an hour,
// and never returns where the date line has skipped a day.
package schedule

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/squall-chaos/squall/experiments"
)

const (
	// MaxMissed is the limit up to which missed starts are counted.
	MaxMissed = 100
	// horizon is the limit of the search for a start: after 28 years the days of
	// the week have the same dates again.
	horizon = 28 * 366 * 24 * time.Hour
	// star is the bit that cron sets for a field that is a wildcard.
	star = 1 << 63

	minutesOfDay = 24 * 60
)

// Schedule is the compiled schedule of an experiment.
type Schedule struct {
	name   string
	spec   experiments.Schedule
	fields *cron.SpecSchedule
	// minutes has, for each day of the week, the minutes of the day that cron and
	// the windows permit, ascending.
	minutes [7][]uint16
}

// New compiles the schedule of the experiment with the given name. jitter depends
// on the name. It returns an error if the time zone or the expression is not valid.
func New(name string, s experiments.Schedule) (Schedule, error) {
	parsed, err := s.ParseCron()
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule of %s: %w", name, err)
	}
	fields, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return Schedule{}, fmt.Errorf("schedule of %s: %q names no minutes", name, s.Cron)
	}
	s.StartingDeadline.Duration = cmp.Or(s.StartingDeadline.Duration, experiments.DefaultStartingDeadline)
	compiled := Schedule{name: name, spec: s, fields: fields}
	for day := range compiled.minutes {
		compiled.minutes[day] = minutes(fields, s, day)
		if day > 0 && slices.Equal(compiled.minutes[day], compiled.minutes[day-1]) {
			compiled.minutes[day] = compiled.minutes[day-1] // in most weeks there are only one or two different days
		}
	}
	return compiled, nil
}

// minutes returns the minutes of a day of the week that cron and the windows permit.
func minutes(fields *cron.SpecSchedule, s experiments.Schedule, day int) (permitted []uint16) {
	for minute := range minutesOfDay {
		if !has(fields.Hour, minute/60) || !has(fields.Minute, minute%60) {
			continue
		}
		// January 1, 2023 was a Sunday.
		if s.InWindows(time.Date(2023, 1, 1+day, 0, minute, 0, 0, time.UTC)) {
			permitted = append(permitted, uint16(minute))
		}
	}
	return permitted
}

// has reports whether a field of a cron expression holds a value.
func has(field uint64, value int) bool { return field&(1<<value) != 0 }

// Start is one start of an experiment.
type Start struct {
	// Nominal is the time of the cron expression, in the schedule's zone. It
	// identifies the start.
	Nominal time.Time
	// At is the time of the start: Nominal with its jitter, before the next Nominal.
	At time.Time
}

// Next returns the first start with a Nominal after a time. The result is false if
// the schedule is suspended, or if there is no start within 28 years.
func (s Schedule) Next(t time.Time) (Start, bool) {
	nominal, ok := s.first(t, t.Add(horizon))
	if !ok {
		return Start{}, false
	}
	return s.start(nominal), true
}

// Due is a start that is due.
type Due struct {
	Start
	// Missed is the number of starts between the last one and this one, at most
	// MaxMissed.
	Missed int
	// Skip is why the start must be skipped; nil if it must happen.
	Skip error
}

// Due returns the latest start that is due, given the nominal time of the last
// handled start. The result is handled whether it happens or is skipped. The cost
// does not depend on the length of the pause.
func (s Schedule) Due(last, now time.Time) (Due, bool) {
	if earliest := now.Add(-horizon); last.Before(earliest) {
		last = earliest
	}
	nominal, ok := s.latest(last, now)
	if ok && s.start(nominal).At.After(now) {
		nominal, ok = s.latest(last, nominal.Add(-1))
	}
	if !ok {
		return Due{}, false
	}
	start := s.start(nominal)
	return Due{Start: start, Missed: s.missed(last, nominal), Skip: s.skip(start, now)}, true
}

// skip returns why a start must not happen at a time; nil if it must.
func (s Schedule) skip(start Start, now time.Time) error {
	if deadline := start.At.Add(s.spec.StartingDeadline.Duration); now.After(deadline) {
		return fmt.Errorf("its startingDeadline, %s, was over at %s", s.spec.StartingDeadline, deadline.Format("2006-01-02 15:04:05 MST"))
	}
	return s.spec.Permits(now)
}

// missed counts the nominal times between two times.
func (s Schedule) missed(last, nominal time.Time) (count int) {
	for ; count < MaxMissed; count++ {
		next, ok := s.first(last, nominal.Add(-1))
		if !ok {
			break
		}
		last = next
	}
	return count
}

// start adds the jitter to a nominal time. It is a hash, so that two replicas and
// a restarted process agree. It is shorter than the time to the next nominal time,
// so the starts keep their order.
func (s Schedule) start(nominal time.Time) Start {
	jitter := s.spec.Jitter.Duration
	if next, ok := s.first(nominal, nominal.Add(jitter)); ok {
		jitter = next.Sub(nominal)
	}
	if jitter <= 0 {
		return Start{Nominal: nominal, At: nominal}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", s.name, nominal.Unix()))
	delay := time.Duration(binary.BigEndian.Uint64(sum[:]) % uint64(jitter)) //nolint:gosec // less than jitter
	return Start{Nominal: nominal, At: nominal.Add(delay.Truncate(time.Millisecond))}
}

// latest returns the last nominal time after one time and not after another. It
// uses bisection, because there may be millions in between.
func (s Schedule) latest(after, until time.Time) (time.Time, bool) {
	found, ok := s.first(after, until)
	if !ok {
		return time.Time{}, false
	}
	for until.Sub(found) >= time.Minute {
		middle := found.Add(until.Sub(found) / 2)
		if later, ok := s.first(middle, until); ok {
			found = later
		} else {
			until = middle
		}
	}
	return found, true
}

// first returns the first nominal time after one time and not after another. It
// proceeds from start to start and from midnight to midnight, and stops at each
// change of the zone's clock: between two changes the zone has a constant offset.
func (s Schedule) first(after, until time.Time) (time.Time, bool) {
	if s.spec.Suspend {
		return time.Time{}, false
	}
	t := wholeMinute(time.Unix(after.Unix()+1, 0).In(s.fields.Location))
	for !t.After(until) {
		wait, found := s.wait(t)
		next := t.Add(wait)
		_, change := t.ZoneBounds()
		switch {
		// For the last day of a leap year after 2037 Go returns a change in the
		// past; there is no change then.
		case change.After(t) && !next.Before(change):
			t = wholeMinute(change)
		case found && next.After(until):
			return time.Time{}, false
		case found && (s.fields.Hour&star != 0 || !shownBefore(next)):
			return next, true
		case found:
			t = next.Add(time.Minute)
		default:
			t = next
		}
	}
	return time.Time{}, false
}

// wholeMinute rounds a time up to a whole minute of its zone's clock.
func wholeMinute(t time.Time) time.Time {
	return t.Add(time.Duration((60-t.Second())%60) * time.Second)
}

// wait returns the time until the next start of the day, or until midnight if there
// is none, without a change of the clock.
func (s Schedule) wait(t time.Time) (wait time.Duration, found bool) {
	now, then := t.Hour()*60+t.Minute(), minutesOfDay
	if left := s.minutes[t.Weekday()]; len(left) > 0 && s.onDay(t) {
		if i, _ := slices.BinarySearchFunc(left, now, func(minute uint16, now int) int { return cmp.Compare(int(minute), now) }); i < len(left) {
			then, found = int(left[i]), true
		}
	}
	return time.Duration(then-now) * time.Minute, found
}

// onDay reports whether there are starts on a time's day. As in every cron, a day
// of the month and a day of the week are alternatives if neither is a wildcard.
func (s Schedule) onDay(t time.Time) bool {
	f := s.fields
	month, week := has(f.Dom, t.Day()), has(f.Dow, int(t.Weekday()))
	matches := month && week
	if f.Dom&star == 0 && f.Dow&star == 0 {
		matches = month || week
	}
	if !matches || !has(f.Month, int(t.Month())) {
		return false
	}
	_, excepted := s.spec.Excepted(t)
	return !excepted
}

// shownBefore reports whether the zone's clock has shown a time before, as in the
// hour after it was set back.
func shownBefore(t time.Time) bool {
	change, _ := t.ZoneBounds()
	if change.IsZero() {
		return false
	}
	_, before := change.Add(-time.Second).Zone()
	_, since := t.Zone()
	return t.Sub(change) < time.Duration(before-since)*time.Second
}
