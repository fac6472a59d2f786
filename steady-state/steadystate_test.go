package steadystate_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// answer is an answer of a scripted Prometheus.
type answer struct {
	values []float64
	err    error
	takes  time.Duration
}

func value(v float64) answer { return answer{values: []float64{v}} }

// script answers each query with the next of its answers, and repeats the last
// one. An unknown query is an error.
type script struct {
	mu      sync.Mutex
	answers map[string][]answer
	asked   []time.Time
}

func (s *script) Query(ctx context.Context, promql string) ([]steadystate.Sample, error) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	list := s.answers[promql]
	if len(list) == 0 {
		s.mu.Unlock()
		return nil, errors.New("unexpected query " + promql)
	}
	a := list[0]
	if len(list) > 1 {
		s.answers[promql] = list[1:]
	}
	s.mu.Unlock()
	select {
	case <-time.After(a.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var samples []steadystate.Sample
	for _, v := range a.values {
		samples = append(samples, steadystate.Sample{Value: v})
	}
	return samples, a.err
}

func probe(edit func(*experiments.Probe)) experiments.Probe {
	p := experiments.Probe{
		Name: "p", Measure: experiments.Measure{Query: "q"}, Min: experiments.Number(1), Max: experiments.Number(2), NoData: experiments.NoDataInconclusive,
		Phases: []experiments.Phase{experiments.Before, experiments.During, experiments.After},
	}
	if edit != nil {
		edit(&p)
	}
	return p
}

func TestEveryDisappointmentHasAName(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer answer
		noData experiments.NoData
		want   steadystate.Verdict
		reason string
	}{
		{"inside", value(1.5), "", steadystate.Held, ""},
		{"on the lower edge", value(1), "", steadystate.Held, ""},
		{"on the upper edge", value(2), "", steadystate.Held, ""},
		{"below", value(0.5), "", steadystate.Deviated, "0.5 is below 1"},
		{"above", value(2.5), "", steadystate.Deviated, "2.5 is above 2"},
		{"no series", answer{}, "", steadystate.Inconclusive, "no series"},
		{"two series", answer{values: []float64{1, 1}}, "", steadystate.Inconclusive, "2 series instead of one"},
		{"NaN", value(math.NaN()), "", steadystate.Inconclusive, "NaN"},
		{"+Inf", value(math.Inf(1)), "", steadystate.Inconclusive, "+Inf"},
		{"-Inf", value(math.Inf(-1)), "", steadystate.Inconclusive, "-Inf"},
		{"error", answer{err: errors.New("boom")}, "", steadystate.Inconclusive, "boom"},
		{"no data fails", answer{}, experiments.NoDataFail, steadystate.Deviated, "no series"},
		{"no data passes", answer{}, experiments.NoDataPass, steadystate.Held, ""},
		{"an error does not pass", answer{err: errors.New("boom")}, experiments.NoDataPass, steadystate.Inconclusive, "boom"},
		{"infinity does not pass", value(math.Inf(1)), experiments.NoDataPass, steadystate.Inconclusive, "+Inf"},
		{"NaN passes", value(math.NaN()), experiments.NoDataPass, steadystate.Held, ""},
		{"two series do not pass", answer{values: []float64{1, 1}}, experiments.NoDataPass, steadystate.Inconclusive, "2 series instead of one"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := probe(func(p *experiments.Probe) { p.NoData = test.noData })
				w := steadystate.Watcher{Querier: &script{answers: map[string][]answer{"q": {test.answer}}}, Interval: time.Second, Record: func(steadystate.Measurement) {}}
				findings := w.Watch(t.Context(), []experiments.Probe{p}, experiments.Before, 0)
				if len(findings) != 1 || findings[0].Verdict != test.want || findings[0].Reason != test.reason {
					t.Errorf("findings %+v", findings)
				}
			})
		})
	}
}

func TestWatchKeepsItsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := value(1)
		slow.takes = 2500 * time.Millisecond
		quick := value(1)
		quick.takes = 300 * time.Millisecond
		q := &script{answers: map[string][]answer{"q": {quick, slow, quick}}}
		start := time.Now()
		var phases []experiments.Phase
		w := steadystate.Watcher{Querier: q, Interval: 3 * time.Second, Record: func(m steadystate.Measurement) { phases = append(phases, m.Phase) }}
		findings := w.Watch(t.Context(), []experiments.Probe{probe(nil)}, experiments.During, 10*time.Second)
		if steadystate.Worst(findings) != steadystate.Held {
			t.Errorf("findings %+v", findings)
		}
		var at []time.Duration
		for _, asked := range q.asked {
			at = append(at, asked.Sub(start))
		}
		if diff := cmp.Diff([]time.Duration{3 * time.Second, 6 * time.Second, 9 * time.Second}, at); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("watched for %s", took)
		}
		if diff := cmp.Diff([]experiments.Phase{experiments.During, experiments.During, experiments.During}, phases); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWatchSkipsMomentsThatASlowQueryMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := answer{takes: time.Hour}
		q := &script{answers: map[string][]answer{"q": {value(1), stuck, value(1)}}}
		start := time.Now()
		p := probe(func(p *experiments.Probe) { p.FailureLimit = 1 })
		w := steadystate.Watcher{Querier: q, Interval: 400 * time.Millisecond, Record: func(steadystate.Measurement) {}}
		findings := w.Watch(t.Context(), []experiments.Probe{p}, experiments.During, 3*time.Second)
		if steadystate.Worst(findings) != steadystate.Held {
			t.Errorf("findings %+v", findings)
		}
		var at []time.Duration
		for _, asked := range q.asked {
			at = append(at, asked.Sub(start))
		}
		// The second query is canceled after the shortest timeout, 1 s.
		want := []time.Duration{400, 800, 2000, 2400, 2800}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWatchStopsAtTheFirstDeviation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := steadystate.Watcher{Querier: &script{answers: map[string][]answer{"q": {value(1), value(3)}}}, Interval: time.Second, Record: func(steadystate.Measurement) {}}
		findings := w.Watch(t.Context(), []experiments.Probe{probe(nil)}, experiments.During, time.Hour)
		if findings[0].Verdict != steadystate.Deviated || time.Since(start) != 2*time.Second {
			t.Errorf("findings %+v after %s", findings, time.Since(start))
		}
	})
}

func TestFailureLimit(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []answer
		want    steadystate.Verdict
	}{
		{"one miss is tolerated", []answer{value(3), value(1), value(3), value(1), value(1)}, steadystate.Held},
		{"two in a row are not", []answer{value(1), value(3), value(3), value(1), value(1)}, steadystate.Deviated},
		{"no data twice", []answer{value(1), {}, {}, value(1), value(1)}, steadystate.Inconclusive},
		{"no data, then a miss", []answer{value(1), {}, value(3), value(1), value(1)}, steadystate.Inconclusive},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := probe(func(p *experiments.Probe) { p.FailureLimit = 1 })
				w := steadystate.Watcher{Querier: &script{answers: map[string][]answer{"q": test.answers}}, Interval: time.Second, Record: func(steadystate.Measurement) {}}
				findings := w.Watch(t.Context(), []experiments.Probe{p}, experiments.During, 5*time.Second)
				if findings[0].Verdict != test.want {
					t.Errorf("findings %+v", findings)
				}
			})
		})
	}
}

func TestSettlingIsNotJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := probe(func(p *experiments.Probe) { p.Settle.Duration = 2500 * time.Millisecond })
		var settling []bool
		w := steadystate.Watcher{
			Querier:  &script{answers: map[string][]answer{"q": {value(9), value(9), value(1)}}},
			Interval: time.Second,
			Record:   func(m steadystate.Measurement) { settling = append(settling, m.Settling) },
		}
		if findings := w.Watch(t.Context(), []experiments.Probe{p}, experiments.During, 4*time.Second); findings[0].Verdict != steadystate.Held {
			t.Errorf("findings %+v", findings)
		}
		if diff := cmp.Diff([]bool{true, true, false, false}, settling); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAProbeThatWasNeverJudgedIsInconclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := probe(func(p *experiments.Probe) { p.Settle.Duration = time.Minute })
		w := steadystate.Watcher{Querier: &script{answers: map[string][]answer{"q": {value(1)}}}, Interval: time.Second, Record: func(steadystate.Measurement) {}}
		if findings := w.Watch(t.Context(), []experiments.Probe{p}, experiments.During, 4*time.Second); findings[0].Verdict != steadystate.Inconclusive {
			t.Errorf("findings %+v", findings)
		}
	})
}

func TestRecover(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []answer
		want    steadystate.Verdict
		took    time.Duration
	}{
		{"at once", []answer{value(1)}, steadystate.Held, 0},
		{"after a while", []answer{value(3), {}, value(1)}, steadystate.Held, 2 * time.Second},
		{"never", []answer{value(3)}, steadystate.Deviated, 5 * time.Second},
		{"nobody knows", []answer{value(1), {}}, steadystate.Held, 0},
		{"no data in the end", []answer{value(3), {}}, steadystate.Inconclusive, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := steadystate.Watcher{Querier: &script{answers: map[string][]answer{"q": test.answers}}, Interval: time.Second, Record: func(steadystate.Measurement) {}}
				findings, took := w.Recover(t.Context(), []experiments.Probe{probe(nil)}, 5*time.Second)
				if findings[0].Verdict != test.want || took != test.took {
					t.Errorf("findings %+v after %s", findings, took)
				}
			})
		})
	}
}

// An interruption is not a result about the hypothesis, so no measurement is
// recorded.
func TestInterruptedQueriesAreNotMeasurements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		recorded := 0
		w := steadystate.Watcher{
			Querier:  &script{answers: map[string][]answer{"q": {value(1), {takes: time.Hour}}}},
			Interval: time.Second,
			Record:   func(steadystate.Measurement) { recorded++ },
		}
		w.Watch(ctx, []experiments.Probe{probe(nil)}, experiments.Before, time.Minute)
		if recorded != 1 {
			t.Errorf("%d measurements", recorded)
		}
	})
}

// A process that does not run for some time has not watched the fault.
func TestNothingWasMeasuredForSomeTime(t *testing.T) {
	for name, test := range map[string]struct {
		phase  experiments.Phase
		stops  time.Duration
		after  int
		reason string
	}{
		"it goes on":               {experiments.During, 30 * time.Second, 3, "nothing was measured for 35s"},
		"until the end":            {experiments.During, time.Minute, 3, "nothing was measured for 1m0s"},
		"as long as a query takes": {experiments.During, 14 * time.Second, 3, ""},
		"before the fault":         {experiments.Before, 30 * time.Second, 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: map[string][]answer{"q": {{values: []float64{1}}}}}
				recorded := 0
				w := steadystate.Watcher{Querier: s, Interval: 5 * time.Second, Record: func(steadystate.Measurement) {
					if recorded++; recorded == test.after {
						time.Sleep(test.stops)
					}
				}}
				findings := w.Watch(t.Context(), []experiments.Probe{probe(nil)}, test.phase, time.Minute)
				if held := findings[0].Verdict == steadystate.Held; held != (test.reason == "") || findings[0].Reason != test.reason {
					t.Errorf("%+v", findings)
				}
			})
		})
	}
}
