package serve

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/schedule"
)

// tick starts and skips what is due, and gives the time until it must look
// again.
func (s *Server) tick(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	nap := longestNap
	if s.leads == nil {
		return nap
	}
	s.Metrics.Live(len(s.live), s.faults()) // a fault may start later than its run's
	for _, name := range s.names() {
		one := s.entries[name]
		if one.schedule == nil {
			continue
		}
		if due, ok := one.schedule.Due(one.last, now); ok {
			s.meet(name, one, due, now)
		}
		if next, ok := one.next(); ok && next.At.After(now) {
			nap = min(nap, next.At.Sub(now))
		}
	}
	return nap
}

// errReplaced is why a run ends when its experiment's next one starts.
var errReplaced = errors.New("the experiment's next start replaces it")

// meet starts what is due, or skips it, or lets it wait until its deadline.
func (s *Server) meet(name string, one *entry, due schedule.Due, now time.Time) {
	switch own := s.liveOf(name); {
	case s.paused != "":
		s.skip(name, one, due, metrics.SkippedPaused, "paused by "+s.paused)
	case one.forbidden != obstacle{}:
		s.skip(name, one, due, one.forbidden.reason, one.forbidden.words)
	case due.Skip != "" && one.waiting != obstacle{}:
		s.skip(name, one, due, one.waiting.reason, due.Skip+", after it has waited: "+one.waiting.words)
	case due.Skip != "" && now.Sub(due.At) > one.experiment.Spec.Schedule.StartingDeadline.Duration:
		s.skip(name, one, due, metrics.SkippedDeadline, due.Skip)
	case due.Skip != "":
		s.skip(name, one, due, metrics.SkippedWindow, due.Skip)
	case len(own) > 0 && one.experiment.Spec.Schedule.ConcurrencyPolicy == experiments.Forbid:
		s.skip(name, one, due, metrics.SkippedConcurrency, "its last run has not ended")
	case len(own) > 0 && one.experiment.Spec.Schedule.ConcurrencyPolicy == experiments.Replace:
		for _, run := range own {
			run.stop(errReplaced)
		}
		one.waiting = obstacle{metrics.SkippedConcurrency, "its last run is ending"}
	default:
		if others := s.Limits.room(reachOf(one.experiment.Spec), s.reaches(nil)); others != (obstacle{}) {
			one.waiting = others
			return
		}
		s.settle(name, one, due)
		s.start(one.experiment, due.Nominal, by("schedule"))
		s.Metrics.Started(name, now.Sub(due.At))
		s.Log.Info("started by schedule", "experiment", name, "nominal", due.Nominal.UTC(), "lag", now.Sub(due.At))
	}
}

// settle counts a start as dealt with, in this process, and those that it has
// overtaken, maybe while it waited.
func (s *Server) settle(name string, one *entry, due schedule.Due) {
	overtaken := cmp.Or(one.waiting.reason, metrics.SkippedDeadline)
	one.last, one.waiting = due.Nominal, obstacle{}
	s.publishNext(name, one)
	for range due.Missed {
		s.Metrics.Skipped(name, overtaken)
	}
}

func (s *Server) skip(name string, one *entry, due schedule.Due, reason, words string) {
	s.settle(name, one, due)
	s.dealt(name, due.Nominal)
	s.Metrics.Skipped(name, reason)
	s.Log.Warn("start skipped", "experiment", name, "nominal", due.Nominal.UTC(), "reason", words)
}

// liveOf gives the live runs of an experiment.
func (s *Server) liveOf(experiment string) []*liveRun {
	var runs []*liveRun
	for _, run := range s.live {
		if run.experiment.Metadata.Name == experiment {
			runs = append(runs, run)
		}
	}
	return runs
}

// reaches gives whom the live runs disturb, but for one run.
func (s *Server) reaches(but *liveRun) []reach {
	reaches := make([]reach, 0, len(s.live))
	for _, run := range s.live {
		if run != but {
			reaches = append(reaches, run.reach)
		}
	}
	return reaches
}

// permit says why a run may not carry out its plan, which may disturb more than
// the file says.
func (s *Server) permit(run *liveRun, plan mesh.Plan) string {
	if reason := s.Limits.ForbidsPlan(plan); reason != "" {
		return reason
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := run.reach.and(plan)
	others := s.Limits.room(wanted, s.reaches(run))
	if others == (obstacle{}) {
		run.reach = wanted
	}
	return others.words
}

// by is who has started a run.
type by string

// The reasons why what somebody asks for is not done.
var (
	errNotLeading = errors.New("another replica leads")
	errUnknown    = errors.New("there is no such experiment")
	errNotLive    = errors.New("no such run is live")
	errForbidden  = errors.New("not permitted here")
	errBusy       = errors.New("not now")
)

// StartNow starts an experiment at once, whatever its schedule says, on
// somebody's behalf. It gives the run.
func (s *Server) StartNow(name, owner string) (run string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, known := s.entries[name]
	switch {
	case s.leads == nil:
		return "", fmt.Errorf("%w: %s", errNotLeading, s.leader)
	case !known:
		return "", errUnknown
	case one.forbidden != obstacle{}:
		return "", fmt.Errorf("%w: %s", errForbidden, one.forbidden.words)
	}
	if others := s.Limits.room(reachOf(one.experiment.Spec), s.reaches(nil)); others != (obstacle{}) {
		return "", fmt.Errorf("%w: %s", errBusy, others.words)
	}
	s.Log.Info("started by hand", "experiment", name, "by", owner)
	return s.start(one.experiment, time.Time{}, by(owner)), nil
}
