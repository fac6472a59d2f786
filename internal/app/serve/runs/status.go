package runs

import (
	"fmt"
	"math"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Status is a live run, as the API shows it.
type Status struct {
	Run        string          `json:"run"`
	Experiment string          `json:"experiment"`
	Title      string          `json:"title,omitempty"`
	By         string          `json:"by"`
	Host       string          `json:"host"`
	Callers    []string        `json:"callers"`
	Began      time.Time       `json:"began"`
	Phase      event.PhaseName `json:"phase"`
	// Left is the maximum time that the phase still lasts; 0 when it has none.
	Left   experiments.Duration `json:"left"`
	Probes []ProbeStatus        `json:"probes"`
	// Hit is the number of requests that were hit, as Prometheus has counted them.
	Hit *float64 `json:"hit,omitempty"`
}

// HitInWords says how many requests were hit; it is empty when that is not known.
func (s Status) HitInWords() string {
	switch {
	case s.Hit == nil:
		return ""
	case math.Round(*s.Hit) == 1:
		return "1 request hit"
	default:
		return fmt.Sprintf("%.0f requests hit", *s.Hit)
	}
}

// ProbeStatus is the last measurement of a probe.
type ProbeStatus struct {
	Name      string              `json:"name"`
	Tolerance string              `json:"tolerance"`
	Value     string              `json:"value"`
	Verdict   steadystate.Verdict `json:"verdict"`
	Reason    string              `json:"reason,omitempty"`
}

func (r *run) status(now time.Time) Status {
	message := r.message(notify.Started)
	r.mu.Lock()
	defer r.mu.Unlock()
	shown := Status{
		Run: r.id, Experiment: message.Experiment, Title: message.Title, By: r.request.Owner, Host: message.Host, Callers: append([]string{}, message.Callers...),
		Began: r.began.UTC(), Phase: r.phase.Name, Probes: []ProbeStatus{},
	}
	if r.phase.Length.Duration > 0 {
		shown.Left.Duration = max(0, r.phase.Length.Duration-now.Sub(r.since)).Round(time.Second)
	}
	if r.hit != nil {
		shown.Hit = &r.hit.Hit
	}
	for _, probe := range r.request.Experiment.Spec.Measured() {
		shown.Probes = append(shown.Probes, r.probeStatus(probe))
	}
	return shown
}

// probeStatus needs r.mu.
func (r *run) probeStatus(probe experiments.Probe) ProbeStatus {
	shown := ProbeStatus{Name: probe.Name, Tolerance: words.Tolerance(probe), Value: "-", Verdict: steadystate.Inconclusive, Reason: "not measured yet"}
	m, measured := r.probes[probe.Name]
	if !measured {
		return shown
	}
	shown.Verdict, shown.Reason = m.Verdict, m.Reason
	if m.Value != nil {
		shown.Value = steadystate.FormatValue(*m.Value)
	}
	return shown
}
