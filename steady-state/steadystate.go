// Package steadystate measures the probes of a hypothesis and judges them.
//
// Missing data never counts as healthy: a measurement without a single finite
// number has no verdict and makes a hypothesis inconclusive, unless its probe
// sets another outcome.
package steadystate

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/squall-chaos/squall/experiments"
)

// Verdict is the result of measurements for a hypothesis. Verdicts are ordered,
// Held < Inconclusive < Deviated, and joined with max.
type Verdict int

// The verdicts.
const (
	Held Verdict = iota
	Inconclusive
	Deviated
)

var (
	_ encoding.TextMarshaler   = Held
	_ encoding.TextUnmarshaler = new(Verdict)
)

func (v Verdict) String() string { return [...]string{"held", "inconclusive", "deviated"}[v] }

// MarshalText returns the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText parses a verdict's name.
func (v *Verdict) UnmarshalText(text []byte) error {
	for _, known := range []Verdict{Held, Inconclusive, Deviated} {
		if known.String() == string(text) {
			*v = known
			return nil
		}
	}
	return fmt.Errorf("%q is not a verdict", text)
}

// Sample is one series of a query's result at one time.
type Sample struct {
	Labels map[string]string
	Value  float64
	// Time is the time for which the server evaluated the query; zero if it is
	// unknown.
	Time time.Time
}

// A Querier evaluates PromQL at the server's current time. A scalar is one
// sample without labels. It returns an error for results that are neither
// scalar nor instant vector, and retries temporary errors within ctx.
type Querier interface {
	Query(ctx context.Context, promql string) ([]Sample, error)
}

// Measurement is one timed result of a probe.
type Measurement struct {
	Probe string            `json:"probe"`
	Phase experiments.Phase `json:"phase"`
	Time  time.Time         `json:"time"`
	// Seconds is the duration of the query.
	Seconds float64 `json:"seconds"`
	// Value is nil if the query returned no single finite number.
	Value *float64 `json:"value,omitempty"`
	// Verdict is Held inside the tolerance and Deviated outside it. Without a
	// value it follows from the probe's noData.
	Verdict Verdict `json:"verdict"`
	// Reason is why the measurement is not Held; empty if it is.
	Reason string `json:"reason,omitempty"`
	// Settling reports whether the measurement was too early in its phase to be
	// judged.
	Settling bool `json:"settling,omitempty"`
}

// measured is a measurement of one of several probes, with the time for which
// the server evaluated its query.
type measured struct {
	probe int
	Measurement
	evaluated time.Time
}

// measureAll queries every probe once, concurrently, and calls each for every
// measurement as it arrives. It returns, without waiting for the others, if each
// returns true.
func (w Watcher) measureAll(ctx context.Context, probes []experiments.Probe, phase experiments.Phase, timeout time.Duration, each func(measured) (done bool)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	results := make(chan measured, len(probes)) // buffered, because the reader may return early
	for i, probe := range probes {
		go func() {
			start := time.Now()
			m, evaluated := w.measureOne(ctx, probe)
			m.Phase, m.Time, m.Seconds = phase, start, time.Since(start).Seconds()
			results <- measured{probe: i, Measurement: m, evaluated: evaluated}
		}()
	}
	answered := make([]bool, len(probes))
	for range probes {
		m, ok := inTime(ctx, results)
		if !ok {
			break
		}
		answered[m.probe] = true
		if each(m) {
			return
		}
	}
	for i, probe := range probes {
		if answered[i] {
			continue
		}
		m := judge(probe, nil, errLate)
		m.Phase, m.Time, m.Seconds = phase, began, time.Since(began).Seconds()
		if each(measured{probe: i, Measurement: m}) {
			return
		}
	}
}

// errLate is the error of a query that does not end with its context, for example
// while a client waits for a token.
var errLate = errors.New("did not answer in time")

// lateness is the time that a query has to end after its context.
const lateness = 200 * time.Millisecond

// inTime returns the next result. ok is false if there is none shortly after ctx
// is done.
func inTime(ctx context.Context, results <-chan measured) (m measured, ok bool) {
	select {
	case m := <-results:
		return m, true
	case <-ctx.Done():
	}
	select {
	case m := <-results:
		return m, true
	case <-time.After(lateness):
		return measured{}, false
	}
}

// measureOne queries one probe. It also returns the time for which the server
// evaluated the query.
func (w Watcher) measureOne(ctx context.Context, probe experiments.Probe) (m Measurement, evaluated time.Time) {
	samples, err := w.Querier.Query(ctx, probe.PromQL())
	if len(samples) > 0 {
		evaluated = samples[0].Time
	}
	if probe.Alerts == nil || w.Alerts == nil {
		return judge(probe, samples, err), evaluated
	}
	rules, rulesErr := w.Alerts.Alerts(ctx, probe.Alerts)
	return judgeAlerts(probe, samples, err, rules, rulesErr), evaluated
}

// judge compares a query's result with the probe's tolerance.
func judge(probe experiments.Probe, samples []Sample, err error) Measurement {
	m := Measurement{Probe: probe.Name}
	noData := probe.NoData
	switch {
	case err != nil:
		m.Reason = err.Error()
	case len(samples) == 0:
		m.Reason = "no series"
	case len(samples) > 1:
		m.Reason = fmt.Sprintf("%d series instead of one", len(samples))
	case math.IsNaN(samples[0].Value):
		m.Reason = "NaN"
	case math.IsInf(samples[0].Value, 0):
		m.Reason = FormatValue(samples[0].Value)
	default:
		value := samples[0].Value
		m.Value = &value
	}
	if noData == experiments.NoDataPass && (err != nil || len(samples) > 1 || len(samples) == 1 && math.IsInf(samples[0].Value, 0)) {
		// A query that fails, or returns something other than one number, is not an
		// absence of data. NaN is: it is the result of zero divided by zero.
		noData = experiments.NoDataInconclusive
	}
	switch {
	case m.Value == nil && noData == experiments.NoDataPass:
		m.Verdict = Held
	case m.Value == nil && noData == experiments.NoDataFail:
		m.Verdict = Deviated
	case m.Value == nil:
		m.Verdict = Inconclusive
	case probe.Min != nil && *m.Value < probe.Min.Value():
		m.Verdict, m.Reason = Deviated, fmt.Sprintf("%s is below %s", FormatValue(*m.Value), FormatValue(probe.Min.Value()))
	case probe.Max != nil && *m.Value > probe.Max.Value():
		m.Verdict, m.Reason = Deviated, fmt.Sprintf("%s is above %s", FormatValue(*m.Value), FormatValue(probe.Max.Value()))
	}
	return m
}

// FormatValue formats a measured number with four significant digits.
func FormatValue(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// Finding is the result of one phase for one probe.
type Finding struct {
	Probe   string            `json:"probe"`
	Phase   experiments.Phase `json:"phase"`
	Verdict Verdict           `json:"verdict"`
	Reason  string            `json:"reason,omitempty"`
	// Time is the time of the measurement that decided.
	Time time.Time `json:"time,omitzero"`
}

// tally joins the measurements of one probe in one phase. It keeps the worst
// verdict: a probe that has deviated does not hold again in the phase.
type tally struct {
	finding Finding
	limit   int
	// worst and reason belong to the worst measurement. held reports whether any
	// measurement was inside the tolerance.
	worst  Verdict
	reason string
	judged bool
	held   bool
	// misses counts consecutive measurements that were not held, and outside
	// counts those among them that deviated.
	misses, outside int
}

func (t *tally) add(m Measurement) {
	if m.Settling {
		return
	}
	t.judged = true
	if m.Verdict == Held {
		t.held = true
		t.misses, t.outside = 0, 0
		return
	}
	if m.Verdict > t.worst {
		t.worst, t.reason = m.Verdict, m.Reason
	}
	t.misses++
	if m.Verdict == Deviated {
		t.outside++
	}
	verdict := Held
	switch {
	case t.outside > t.limit:
		verdict = Deviated
	case t.misses > t.limit:
		verdict = Inconclusive
	}
	if verdict > t.finding.Verdict {
		t.finding.Verdict, t.finding.Reason, t.finding.Time = verdict, m.Reason, m.Time
		if t.limit > 0 {
			t.finding.Reason += fmt.Sprintf(" (%d times in a row)", t.misses)
		}
	}
}

// unwatched records that nothing was measured for some time.
func (t *tally) unwatched(gap time.Duration) {
	if t.finding.Verdict == Held {
		t.finding.Verdict, t.finding.Time = Inconclusive, time.Now()
		t.finding.Reason = fmt.Sprintf("nothing was measured for %s", gap.Round(time.Second))
	}
}

// result returns the finding at the end of the phase. A failure limit tolerates
// misses only if other measurements hold.
func (t *tally) result() Finding {
	switch {
	case !t.judged:
		t.finding.Verdict, t.finding.Reason = Inconclusive, "was never measured"
	case !t.held && t.worst > t.finding.Verdict:
		t.finding.Verdict, t.finding.Reason = t.worst, t.reason+" (and no measurement held)"
	}
	return t.finding
}

// Worst returns the worst verdict of findings, or Held if there are none.
func Worst(findings []Finding) Verdict {
	worst := Held
	for _, f := range findings {
		worst = max(worst, f.Verdict)
	}
	return worst
}
