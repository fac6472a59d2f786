package scheduler

import (
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/runner/schedule"
)

// Entry is an experiment as the scheduler keeps it.
type Entry struct {
	experiment experiments.Experiment
	file       string
	schedule   *schedule.Schedule // nil without one
	// forbidden is why the experiment may not run here, or nil.
	forbidden error
	// handled is the nominal time of the last start that was made or skipped, or
	// the time at which the schedule began.
	handled time.Time
	// waiting is why a start that is due waits, or nil.
	waiting error
}

// NewEntry compiles an experiment of a file. It takes long enough not to hold a
// lock meanwhile.
func NewEntry(e experiments.Experiment, file string, limits Limits) *Entry {
	one := &Entry{experiment: e, file: file, forbidden: limits.permits(e.Spec)}
	if e.Spec.Schedule == nil {
		return one
	}
	compiled, err := schedule.New(e.Metadata.Name, *e.Spec.Schedule)
	if err != nil { // files.Load has checked it
		one.forbidden = err
		return one
	}
	one.schedule = &compiled
	return one
}

// next returns the next start by schedule.
func (e *Entry) next() (schedule.Start, bool) {
	if e.schedule == nil || e.forbidden != nil {
		return schedule.Start{}, false
	}
	return e.schedule.Next(e.handled)
}

// nextAfter returns when the next start after now is due. Unlike next it does
// not need handled to be current: a replica that does not lead handles no starts.
func (e *Entry) nextAfter(now time.Time) (time.Time, bool) {
	if e.schedule == nil || e.forbidden != nil {
		return time.Time{}, false
	}
	// The nominal time of the next start may have passed, but not its jitter.
	from := now.Add(-e.experiment.Spec.Schedule.Jitter.Duration)
	if e.handled.After(from) {
		from = e.handled
	}
	if due, ok := e.schedule.Due(from, now); ok {
		from = due.Nominal
	}
	next, ok := e.schedule.Next(from)
	return next.At, ok
}

// Status is an experiment and its schedule, as the API shows it.
type Status struct {
	Name     string `json:"name"`
	Title    string `json:"title,omitempty"`
	File     string `json:"file"`
	Cron     string `json:"cron,omitempty"`
	TimeZone string `json:"timeZone,omitempty"`
	Suspend  bool   `json:"suspend,omitempty"`
	// Next is the next start by schedule; it is absent when there is none.
	Next      time.Time `json:"next,omitzero"`
	Forbidden string    `json:"forbidden,omitempty"`
	Waiting   string    `json:"waiting,omitempty"`
}

func (e *Entry) status(name string, now time.Time) Status {
	shown := Status{Name: name, Title: e.experiment.Spec.Title, File: e.file}
	if e.forbidden != nil {
		shown.Forbidden = e.forbidden.Error()
	}
	if e.waiting != nil {
		shown.Waiting = e.waiting.Error()
	}
	if planned := e.experiment.Spec.Schedule; planned != nil {
		shown.Cron, shown.TimeZone, shown.Suspend = planned.Cron, planned.TimeZone, planned.Suspend
	}
	if next, ok := e.nextAfter(now); ok {
		shown.Next = next
	}
	return shown
}
