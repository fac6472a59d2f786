package reports

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/runner"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The elements of a JUnit report, as Jenkins and its kind read them: a suite for
// the run, and a case for each probe and phase, for the effect, and for the run
// as a whole.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Errors    int         `xml:"errors,attr"`
	Time      string      `xml:"time,attr"`
	Timestamp string      `xml:"timestamp,attr"`
	Cases     []junitCase `xml:"testcase"`
	Out       junitText   `xml:"system-out"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Error   *junitProblem `xml:"error,omitempty"`
	Failure *junitProblem `xml:"failure,omitempty"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",cdata"`
}

type junitText struct {
	Text string `xml:",cdata"`
}

// JUnit writes a report for CI systems: deviations are failures, and what could
// not be told is an error.
func JUnit(w io.Writer, r Run) error { return writeSuites(w, r.suite()) }

// suite gives the suite of the run.
func (r Run) suite() junitSuite {
	name := "squall." + r.Experiment.Metadata.Name
	suite := junitSuite{Name: name, Time: junitSeconds(r.Last.Sub(r.Began)), Timestamp: r.Began.UTC().Format("2006-01-02T15:04:05")}
	add := func(c junitCase, verdict *steadystate.Verdict, message, details string) {
		c.Class = name
		problem := &junitProblem{Message: message, Text: details}
		switch {
		case verdict == nil:
			problem.Type, c.Error = "unfinished", problem
		case *verdict == steadystate.Deviated:
			problem.Type, c.Failure = "deviated", problem
			suite.Failures++
		case *verdict == steadystate.Inconclusive:
			problem.Type, c.Error = "inconclusive", problem
		}
		if c.Error != nil {
			suite.Errors++
		}
		suite.Cases = append(suite.Cases, c)
		suite.Tests++
	}
	for _, j := range r.judgements() {
		details := fmt.Sprintf("tolerance: %s\nlowest %s, highest %s, last %s of %d measurements\nquery: %s", j.Tolerance, j.Lowest, j.Highest, j.Last, j.Count, j.Query)
		message := j.Reason
		if j.Verdict == nil {
			message = "the run ended before the probe was judged"
		}
		add(junitCase{Name: fmt.Sprintf("%s (%s)", j.Probe, j.Phase), Time: junitSeconds(r.lasted(j.Phase))}, j.Verdict, message, details)
	}
	if r.Effect != nil {
		add(junitCase{Name: "the fault hits requests", Time: "0.000"}, &r.Effect.Verdict, r.Effect.Reason, "query: "+r.Effect.Query)
	}
	whole, message := r.wholeVerdict()
	add(junitCase{Name: "run", Time: suite.Time}, whole, message, "")
	var text strings.Builder
	_ = Text(&text, r) // a Builder takes everything
	suite.Out.Text = text.String()
	return suite
}

func writeSuites(w io.Writer, suites ...junitSuite) error {
	encoded, err := xml.MarshalIndent(junitSuites{Suites: suites}, "", "  ")
	if err != nil {
		return fmt.Errorf("JUnit report: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s%s\n", xml.Header, encoded); err != nil {
		return fmt.Errorf("JUnit report: %w", err)
	}
	return nil
}

// wholeVerdict judges the run as such. A probe that has deviated is a failure of
// its own, so the run fails with it only where no probe says why.
func (r Run) wholeVerdict() (*steadystate.Verdict, string) {
	if r.Result == nil {
		return nil, r.Outcome()
	}
	verdict := r.Result.Verdict
	if len(r.Result.Left) > 0 {
		verdict = steadystate.Deviated
		return &verdict, "the rollback is incomplete"
	}
	if r.Result.Status == runner.Completed || r.Result.Status == runner.Stopped {
		for _, j := range r.judgements() {
			if j.Verdict != nil && *j.Verdict == verdict {
				verdict = steadystate.Held
				break
			}
		}
	}
	return &verdict, r.Result.Reason
}

// lasted gives how long the probes of a phase were measured.
func (r Run) lasted(phase experiments.Phase) time.Duration {
	names := map[experiments.Phase]runner.PhaseName{experiments.Before: runner.PhaseBaseline, experiments.During: runner.PhaseObserve, experiments.After: runner.PhaseRecover}
	for i, p := range r.Phases {
		if p.Name != names[phase] {
			continue
		}
		end := r.Last
		if i+1 < len(r.Phases) {
			end = r.Phases[i+1].Began
		}
		return end.Sub(p.Began)
	}
	return 0
}

func junitSeconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
