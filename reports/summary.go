package reports

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The states of runs without a verdict.
const (
	stateUnfinished = "unfinished"
	stateUnreadable = "unreadable"
)

// cutShort is the reason of an unfinished run.
const cutShort = "the journal ends before the end of the run"

// Summary is a run in a list of runs. It holds no measurements, so that a list
// may be long.
type Summary struct {
	Run        string            `json:"run"`
	Experiment string            `json:"experiment,omitempty"`
	Title      string            `json:"title,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// Status is empty, and the verdict inconclusive, if the journal was cut short
	// or could not be read.
	Status   event.Status        `json:"status"`
	Verdict  steadystate.Verdict `json:"verdict"`
	Reason   string              `json:"reason,omitempty"`
	Began    time.Time           `json:"began,omitzero"`
	Finished time.Time           `json:"finished,omitzero"`
	// Injected is the time for which the fault was active, and InjectedMost the upper
	// bound if it is not known to a second.
	Injected     experiments.Duration `json:"-"`
	InjectedMost experiments.Duration `json:"-"`
	// StillHit reports that proxies still injected the fault after the rollback.
	StillHit bool `json:"stillHit,omitempty"`
	// Requests is the number of requests hit, or nil if they were not counted.
	Requests *float64       `json:"requests,omitempty"`
	Left     []objects.Left `json:"left,omitempty"`
	// Link is the path of the report, relative to the list. The caller sets it.
	Link string `json:"link,omitempty"`
	// Error is why the journal could not be read.
	Error string `json:"error,omitempty"`

	// suite is for a JUnit report of the list; WithSuite sets it.
	suite *junitSuite
}

// Summarize returns the summary of a run.
func Summarize(r Run) Summary {
	s := Summary{
		Run: r.Run.ID, Experiment: r.Experiment.Metadata.Name, Title: r.Experiment.Spec.Title, Labels: r.Experiment.Metadata.Labels,
		Verdict: steadystate.Inconclusive, Began: r.Began,
	}
	if r.Effect != nil {
		s.Requests = &r.Effect.Requests
	}
	if result := r.Result; result != nil {
		s.Status, s.Verdict, s.Reason, s.Finished = result.Status, result.Verdict, result.Reason, result.Finished
		s.Injected, s.InjectedMost, s.StillHit, s.Left = result.Injected, result.InjectedMost, result.StillHit, result.Left
	}
	return s
}

// Unreadable returns the entry of a list for a run whose journal cannot be read.
// run is its id or the name of its directory.
func Unreadable(run string, err error) Summary {
	s := Summary{Run: run, Verdict: steadystate.Inconclusive, Error: oneline.Cell(err.Error())}
	if len(run) >= len(event.IDTime) {
		// Ids begin with the time; other directory names do not.
		s.Began, _ = time.Parse(event.IDTime, run[:len(event.IDTime)])
	}
	return s
}

// WithSuite returns the summary of a run with what a JUnit report of the list needs:
// the cases and the text report, which are as large as the run's own report.
func (s Summary) WithSuite(r Run) Summary {
	suite := r.suite()
	s.suite = &suite
	return s
}

// State returns the verdict, or unfinished, or unreadable.
func (s Summary) State() string {
	switch {
	case s.Error != "":
		return stateUnreadable
	case s.Status == "":
		return stateUnfinished
	default:
		return s.Verdict.String()
	}
}

// News returns the state that decides how the run is shown: deviated if objects
// are left behind or proxies still inject, and otherwise State.
func (s Summary) News() string { return news(s.State(), len(s.Left) > 0 || s.StillHit) }

func (r Run) news() string {
	if r.Result == nil {
		return stateUnfinished
	}
	return news(r.Result.Verdict.String(), len(r.Result.Left) > 0 || r.Result.StillHit)
}

func news(state string, leaves bool) string {
	if leaves {
		return steadystate.Deviated.String()
	}
	return state
}

// Hit returns the number of requests hit, for a cell of a table.
func (s Summary) Hit() string {
	if s.Requests == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", math.Round(*s.Requests))
}

// Active returns the time for which the fault was active, for a cell of a table.
func (s Summary) Active() string {
	if s.Injected.Duration <= 0 && s.InjectedMost.Duration <= 0 {
		return "-"
	}
	return words.Active(event.Result{Injected: s.Injected, InjectedMost: s.InjectedMost})
}

// Start returns the start of the run, for a cell of a table.
func (s Summary) Start() string {
	if s.Began.IsZero() {
		return "-"
	}
	return s.Began.UTC().Format("2006-01-02 15:04:05")
}

// Why returns the reason, and first the objects left behind.
func (s Summary) Why() string {
	switch {
	case s.Error != "":
		return s.Error
	case s.Status == "":
		return cutShort
	case len(s.Left) == 0:
		return s.Reason
	}
	words := make([]string, len(s.Left))
	for i, ref := range s.Left {
		words[i] = ref.String()
	}
	return strings.TrimSuffix("LEFT BEHIND: "+strings.Join(words, ", ")+"; "+s.Reason, "; ")
}
