package serve

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Status is how things stand, as GET /api/v1/status says it.
type Status struct {
	Time     time.Time `json:"time"`
	Identity string    `json:"identity"`
	// Leader is the replica that starts runs; Leading tells that it is this one.
	Leader      string             `json:"leader"`
	Leading     bool               `json:"leading"`
	Paused      string             `json:"paused,omitempty"`
	Live        []LiveStatus       `json:"live"`
	Experiments []ExperimentStatus `json:"experiments"`
	Broken      []Broken           `json:"broken"`
}

// LiveStatus is a run in progress.
type LiveStatus struct {
	Run        string          `json:"run"`
	Experiment string          `json:"experiment"`
	Title      string          `json:"title,omitempty"`
	By         string          `json:"by"`
	Host       string          `json:"host"`
	Callers    []string        `json:"callers"`
	Began      time.Time       `json:"began"`
	Phase      event.PhaseName `json:"phase"`
	// Left is the longest that the phase may still last; 0 where nobody says.
	Left   experiments.Duration `json:"left"`
	Probes []ProbeStatus        `json:"probes"`
	// Hit is how many requests were hit, as far as Prometheus knows.
	Hit *float64 `json:"hit,omitempty"`
}

// ProbeStatus is a probe's last measurement.
type ProbeStatus struct {
	Name      string              `json:"name"`
	Tolerance string              `json:"tolerance"`
	Value     string              `json:"value"`
	Verdict   steadystate.Verdict `json:"verdict"`
	Reason    string              `json:"reason,omitempty"`
}

// ExperimentStatus is an experiment and its schedule.
type ExperimentStatus struct {
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

// Status gives how things stand.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	status := Status{
		Time: now.UTC(), Identity: s.Identity, Leader: s.leader, Leading: s.leads != nil, Paused: s.paused,
		Live: []LiveStatus{}, Experiments: []ExperimentStatus{}, Broken: s.broken,
	}
	for _, id := range slices.Sorted(maps.Keys(s.live)) {
		status.Live = append(status.Live, s.live[id].status(now))
	}
	for _, name := range s.names() {
		one := s.entries[name]
		shown := ExperimentStatus{Name: name, Title: one.experiment.Spec.Title, File: one.file, Forbidden: one.forbidden.words, Waiting: one.waiting.words}
		if planned := one.experiment.Spec.Schedule; planned != nil {
			shown.Cron, shown.TimeZone, shown.Suspend = planned.Cron, planned.TimeZone, planned.Suspend
		}
		if next, ok := one.nextAfter(now); ok {
			shown.Next = next
		}
		status.Experiments = append(status.Experiments, shown)
	}
	return status
}

// nextAfter gives when the next start is, as seen from now: a replica that does
// not lead has dealt with none.
func (e *entry) nextAfter(now time.Time) (time.Time, bool) {
	if e.schedule == nil || e.forbidden != (obstacle{}) {
		return time.Time{}, false
	}
	// By its nominal time, the next one may be over: its jitter is not.
	from := now.Add(-e.experiment.Spec.Schedule.Jitter.Duration)
	if e.last.After(from) {
		from = e.last
	}
	if due, ok := e.schedule.Due(from, now); ok {
		from = due.Nominal
	}
	next, ok := e.schedule.Next(from)
	return next.At, ok
}

func (l *liveRun) status(now time.Time) LiveStatus {
	message := l.message("")
	l.mu.Lock()
	defer l.mu.Unlock()
	shown := LiveStatus{
		Run: l.run.ID, Experiment: message.Experiment, Title: message.Title, By: string(l.by), Host: message.Host, Callers: append([]string{}, message.Callers...),
		Began: l.began.UTC(), Phase: l.phase.Name, Probes: []ProbeStatus{},
	}
	if l.phase.Length.Duration > 0 {
		shown.Left.Duration = max(0, l.phase.Length.Duration-now.Sub(l.since)).Round(time.Second)
	}
	if l.hit != nil {
		shown.Hit = &l.hit.Hit
	}
	for _, probe := range l.experiment.Spec.Measured() {
		one := ProbeStatus{Name: probe.Name, Tolerance: reports.ToleranceInWords(probe), Value: "-", Verdict: steadystate.Inconclusive, Reason: "not measured yet"}
		if m, measured := l.probes[probe.Name]; measured {
			one.Verdict, one.Reason = m.Verdict, m.Reason
			if m.Value != nil {
				one.Value = steadystate.FormatValue(*m.Value)
			}
		}
		shown.Probes = append(shown.Probes, one)
	}
	return shown
}

// Past gives the runs that are over, the newest first, at most so many.
func (s *Server) Past(most int) []reports.Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	past := slices.AppendSeq(make([]reports.Summary, 0, len(s.past)), maps.Values(s.past))
	slices.SortFunc(past, func(a, b reports.Summary) int { return cmp.Compare(b.Run, a.Run) })
	return past[:min(most, len(past))]
}
