package reports

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The elements of a JUnit report, in the order and with the attributes that the
// schemas of both Jenkins and Ant accept: a suite for the run, with a case for each
// probe and phase, one for the effect, and one for the run as a whole.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Package    string          `xml:"package,attr"`
	Name       string          `xml:"name,attr"` // without the package
	ID         int             `xml:"id,attr"`
	Hostname   string          `xml:"hostname,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
	Out        junitText       `xml:"system-out"`
	Err        junitText       `xml:"system-err"` // always empty, but required by Ant
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
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

// JUnit writes a report for CI systems. A deviation is a failure, and an
// inconclusive case is an error.
func JUnit(w io.Writer, r Run) error { return writeSuites(w, r.suite()) }

// suite returns the suite of the run.
func (r Run) suite() junitSuite {
	suite := r.suiteWithoutCases()
	add := func(c junitCase, verdict *steadystate.Verdict, message, details string) {
		c.Class, c.Name = suite.Package+"."+suite.Name, junitToken(c.Name)
		problem := &junitProblem{Message: message, Text: junitChars(details)}
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
	if r.Clean != nil && r.Clean.State != event.CleanNotCounted {
		verdict := steadystate.Held
		switch r.Clean.State {
		case event.CleanStillHit:
			verdict = steadystate.Deviated
		case event.CleanUnobserved:
			verdict = steadystate.Inconclusive
		case event.CleanSeen, event.CleanNoCalls, event.CleanNotCounted:
		}
		add(junitCase{Name: "the calls are clean after the rollback", Time: "0.000"}, &verdict, words.Clean(*r.Clean), "")
	}
	if r.Effect != nil {
		add(junitCase{Name: "the fault hits requests", Time: "0.000"}, &r.Effect.Verdict, r.Effect.Reason, "query: "+r.Effect.Query)
	}
	whole, message := r.wholeVerdict()
	add(junitCase{Name: "run", Time: suite.Time}, whole, message, "")
	var text strings.Builder
	_ = Text(&text, r) // a Builder returns no error
	suite.Out.Text = junitChars(text.String())
	return suite
}

// junitIndex writes the suites of a list of runs.
func junitIndex(w io.Writer, runs []Summary) error {
	suites := make([]junitSuite, len(runs))
	for i, s := range runs {
		switch {
		case s.Error != "":
			suites[i] = s.unreadableSuite()
		case s.suite == nil:
			return fmt.Errorf("run %s has no suite", s.Run)
		default:
			suites[i] = *s.suite
		}
	}
	return writeSuites(w, suites...)
}

// unreadableSuite returns the suite of a run whose journal cannot be read.
func (s Summary) unreadableSuite() junitSuite {
	r := Run{Began: s.Began, Last: s.Began}
	r.Run.ID, r.Experiment.Metadata.Name = s.Run, s.Run
	suite := r.suite()
	suite.Out = junitText{}
	for _, c := range suite.Cases {
		c.Error.Message, c.Error.Type = s.Error, stateUnreadable
	}
	return suite
}

// writeSuites writes a document with numbered suites.
func writeSuites(w io.Writer, suites ...junitSuite) error {
	for i := range suites {
		suites[i].ID = i
	}
	encoded, err := xml.MarshalIndent(junitSuites{Suites: suites}, "", "  ")
	if err != nil {
		return fmt.Errorf("JUnit report: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s%s\n", xml.Header, encoded); err != nil {
		return fmt.Errorf("JUnit report: %w", err)
	}
	return nil
}

// suiteWithoutCases returns the suite of the run without its cases.
func (r Run) suiteWithoutCases() junitSuite {
	verdict, status := steadystate.Inconclusive, event.Status("")
	if r.Result != nil {
		verdict, status = r.Result.Verdict, r.Result.Status
	}
	_, host, _ := strings.Cut(r.Run.Owner, "@")
	return junitSuite{
		Package: "squall", Name: junitToken(r.Experiment.Metadata.Name), Hostname: cmp.Or(junitToken(host), "localhost"),
		Time: junitSeconds(r.Last.Sub(r.Began)), Timestamp: r.Began.UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{
			{Name: "run", Value: r.Run.ID},
			{Name: "cluster", Value: r.Cluster},
			{Name: "prometheus", Value: r.Prometheus},
			{Name: "version", Value: r.Version},
			{Name: "verdict", Value: verdict.String()},
			{Name: "status", Value: string(status)},
		},
	}
}

// wholeVerdict returns the verdict and reason of the case for the run as a whole. A
// deviation of a probe is a failure of the probe's case, so the run fails only if
// there is none.
func (r Run) wholeVerdict() (*steadystate.Verdict, string) {
	if r.Result == nil {
		return nil, r.Outcome()
	}
	verdict := r.Result.Verdict
	if len(r.Result.Left) > 0 || r.Result.StillHit {
		verdict = steadystate.Deviated
		return &verdict, "the rollback is incomplete"
	}
	if r.Result.Status == event.StatusCompleted || r.Result.Status == event.StatusStopped {
		for _, j := range r.judgements() {
			if j.Verdict != nil && *j.Verdict == verdict {
				verdict = steadystate.Held
				break
			}
		}
	}
	return &verdict, r.Result.Reason
}

// lasted returns how long the probes of a phase were measured.
func (r Run) lasted(phase experiments.Phase) time.Duration {
	names := map[experiments.Phase]event.PhaseName{experiments.Before: event.PhaseBaseline, experiments.During: event.PhaseObserve, experiments.After: event.PhaseRecover}
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

// junitToken returns a text as a token of XML Schema: without outer and repeated spaces.
func junitToken(text string) string { return strings.Join(strings.Fields(text), " ") }

// junitChars replaces characters that XML 1.0 forbids even when escaped. The
// encoder does this in attributes, but not in CDATA.
func junitChars(text string) string {
	return strings.Map(func(r rune) rune {
		if (r < ' ' && r != '\t' && r != '\n' && r != '\r') || r == '\uFFFE' || r == '\uFFFF' {
			return utf8.RuneError
		}
		return r
	}, text)
}
