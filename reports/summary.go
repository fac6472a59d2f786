package reports

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The states of a run that has no verdict.
const (
	stateUnfinished = "unfinished"
	stateUnreadable = "unreadable"
)

// cutShort says why a run is unfinished.
const cutShort = "the journal ends before the run does"

// Summary is a run in a list of runs. It holds no measurements, so that a list
// may be long.
type Summary struct {
	Run        string            `json:"run"`
	Experiment string            `json:"experiment,omitempty"`
	Title      string            `json:"title,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// Status is empty, and the verdict inconclusive, when the journal was cut
	// short or could not be read.
	Status   event.Status        `json:"status"`
	Verdict  steadystate.Verdict `json:"verdict"`
	Reason   string              `json:"reason,omitempty"`
	Began    time.Time           `json:"began,omitzero"`
	Finished time.Time           `json:"finished,omitzero"`
	// Injected is for how long the fault was in force.
	Injected experiments.Duration `json:"-"`
	// Requests is how many were hit; it is absent when nobody has counted.
	Requests *float64      `json:"requests,omitempty"`
	Left     []objects.Ref `json:"left,omitempty"`
	// Link is the path of what tells more, as seen from the list. Whoever makes
	// the list knows it.
	Link string `json:"link,omitempty"`
	// Error says why the journal could not be read.
	Error string `json:"error,omitempty"`

	suite junitSuite
}

// Summarize gives what a list says of a run.
func Summarize(r Run) Summary {
	s := Summary{
		Run: r.Run.ID, Experiment: r.Experiment.Metadata.Name, Title: r.Experiment.Spec.Title, Labels: r.Experiment.Metadata.Labels,
		Verdict: steadystate.Inconclusive, Began: r.Began, suite: r.suite(),
	}
	if r.Effect != nil {
		s.Requests = &r.Effect.Requests
	}
	if result := r.Result; result != nil {
		s.Status, s.Verdict, s.Reason, s.Finished = result.Status, result.Verdict, result.Reason, result.Finished
		s.Injected, s.Left = result.Injected, result.Left
	}
	return s
}

// Unreadable stands in a list for a run whose journal cannot be read. Run is its
// id or the name of its folder.
func Unreadable(run string, err error) Summary {
	var r Run
	r.Run.ID, r.Experiment.Metadata.Name = run, run
	if len(run) >= len(event.IDTime) {
		// Ids begin with the time; a folder of another name has none.
		r.Began, _ = time.Parse(event.IDTime, run[:len(event.IDTime)])
	}
	r.Last = r.Began
	s := Summary{Run: run, Verdict: steadystate.Inconclusive, Began: r.Began, Error: OneLine(err.Error()), suite: r.suite()}
	s.suite.Out = junitText{}
	for _, c := range s.suite.Cases {
		c.Error.Message, c.Error.Type = s.Error, stateUnreadable
	}
	return s
}

// State is the verdict, or unfinished, or unreadable.
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

// News is the state by which the run is shown: bad news, whatever the verdict,
// when something is left behind.
func (s Summary) News() string { return news(s.State(), s.Left) }

func (r Run) news() string {
	if r.Result == nil {
		return stateUnfinished
	}
	return news(r.Result.Verdict.String(), r.Result.Left)
}

func news(state string, left []objects.Ref) string {
	if len(left) > 0 {
		return steadystate.Deviated.String()
	}
	return state
}

// Hit is how many requests were hit, in a cell of a table.
func (s Summary) Hit() string {
	if s.Requests == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", math.Round(*s.Requests))
}

// InForce is for how long the fault was in force, in a cell of a table.
func (s Summary) InForce() string {
	if s.Injected.Duration <= 0 {
		return "-"
	}
	return s.Injected.String()
}

// Start is when the run began, in a cell of a table.
func (s Summary) Start() string {
	if s.Began.IsZero() {
		return "-"
	}
	return s.Began.UTC().Format("2006-01-02 15:04:05")
}

// Why is what there is to say beside the verdict; what is left behind comes
// first.
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
