package runner_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// traffic is a Prometheus that scrapes one caller of ratings every second. The
// counters are functions of the second; a counter with a negative value does not
// exist.
type traffic map[string]func(second float64) float64

func (t traffic) prometheus(start time.Time) fakePrometheus {
	return func(_ context.Context, promql string) ([]steadystate.Sample, error) {
		second := math.Floor(time.Since(start).Seconds())
		switch promql {
		case "up":
			return []steadystate.Sample{{Value: 1}}, nil
		case "time()":
			return now(), nil
		}
		return t.at(start, second), nil
	}
}

// at returns the counters as they were scraped in a second.
func (t traffic) at(start time.Time, second float64) []steadystate.Sample {
	var samples []steadystate.Sample
	for labels, count := range t {
		flags, app, _ := strings.Cut(labels, "/")
		app, reporter, _ := strings.Cut(app, "/")
		sample := flagged(flags, count(second))
		if app != "" {
			sample.Labels["source_app"] = app
		}
		if reporter != "" {
			sample.Labels["reporter"] = reporter
		}
		if flags == "none" {
			delete(sample.Labels, "response_flags")
		}
		if sample.Value >= 0 {
			samples = append(samples, sample)
		}
	}
	return scraped(float64(start.Unix())+second, samples...)
}

// steady is a counter that grows by rate every second.
func steady(rate float64) func(float64) float64 {
	return func(second float64) float64 { return rate * second }
}

// from is a counter that exists from a second on, and grows by rate every second until
// the fault has ended.
func from(first, rate float64) func(float64) float64 { return between(first, 23, rate) }

// between is a counter that exists from a second on, and grows by rate every second
// until another one.
func between(first, last, rate float64) func(float64) float64 {
	return func(second float64) float64 {
		return rate*(min(second, last)-first) - boolean(second < first)*math.MaxFloat64
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// The baseline ends after 3 seconds, the fault after 23.
func TestShareOfTheRequestsHit(t *testing.T) {
	reviews := []experiments.Caller{{Namespace: "shop", Labels: map[string]string{"app": "reviews"}}}
	for name, test := range map[string]struct {
		traffic          traffic
		edit             func(*experiments.Experiment)
		wanted, achieved float64
		noShare          string
	}{
		"as asked":                               {traffic: traffic{"-": steady(5), "FI": from(3, 5)}, wanted: 0.5, achieved: 0.5},
		"a little more than half of it":          {traffic: traffic{"-": steady(7), "FI": from(3, 3)}, wanted: 0.5, achieved: 0.3},
		"requests before the fault do not count": {traffic: traffic{"-": func(s float64) float64 { return 1000*min(s, 3) + 5*max(0, s-3) }, "FI": from(3, 5)}, wanted: 0.5, achieved: 0.5},
		"a counter is reset":                     {traffic: traffic{"-": func(s float64) float64 { return 5*s - 45*boolean(s >= 10) }, "FI": from(3, 5)}, wanted: 0.5, achieved: 0.5},
		"several flags":                          {traffic: traffic{"-": steady(5), "DI,FI": from(3, 5)}, wanted: 0.5, achieved: 0.5},
		"only some workloads of the namespace": {
			traffic: traffic{"-/reviews": steady(5), "FI/reviews": from(3, 5), "-/other": steady(90)},
			edit:    func(e *experiments.Experiment) { e.Spec.Callers = reviews }, wanted: 0.5, achieved: 0.5,
		},
		"abort and delay": {
			traffic: traffic{"-": steady(25), "FI": from(3, 25), "DI": from(3, 25), "DI,FI": from(3, 25)}, wanted: 0.75, achieved: 0.75,
			edit: func(e *experiments.Experiment) {
				e.Spec.Faults[0].Delay = &experiments.Delay{FixedDelay: experiments.Duration{Duration: time.Second}}
			},
		},
		"a delay, whose requests are counted late": {
			traffic: traffic{"-": steady(5), "DI": from(8, 5)}, wanted: 0.5, achieved: 0.5,
			edit: func(e *experiments.Experiment) {
				e.Spec.Faults[0].Abort = nil
				e.Spec.Faults[0].Delay = &experiments.Delay{FixedDelay: experiments.Duration{Duration: 5 * time.Second}}
			},
		},
		"other labels": {
			traffic: traffic{"-": steady(5), "FI": from(3, 5)}, noShare: "no label for the callers' tier",
			edit: func(e *experiments.Experiment) {
				e.Spec.Callers = []experiments.Caller{{Namespace: "shop", Labels: map[string]string{"tier": "web"}}}
			},
		},
		"a match": {
			traffic: traffic{"-": steady(5), "FI": from(3, 5)}, noShare: "does not tell which requests match",
			edit: func(e *experiments.Experiment) {
				get := "GET"
				e.Spec.Match = []experiments.Match{{Method: &experiments.StringMatch{Exact: &get}}}
			},
		},
		"a port":           {traffic: traffic{"-": steady(5), "FI": from(3, 5)}, noShare: "does not tell ports", edit: func(e *experiments.Experiment) { e.Spec.Target.Port = 80 }},
		"for a part of it": {traffic: traffic{"-": steady(5), "FI": from(3, 5)}, noShare: "for a part of the time", edit: func(e *experiments.Experiment) { e.Spec.Faults[0].Duration.Duration = 5 * time.Second }},
		"too short a time": {traffic: traffic{"-": steady(5), "FI": between(3, 5, 5)}, noShare: "has not read the counters twice", edit: func(e *experiments.Experiment) { e.Spec.Duration.Duration = 2 * time.Second }},
		"a waypoint too": {
			traffic: traffic{"-//source": steady(5), "FI//source": from(3, 5), "-//waypoint": steady(5)}, noShare: "both proxies and waypoints report calls from shop",
		},
		"nobody calls later": {traffic: traffic{"-": steady(0), "FI": func(s float64) float64 { return boolean(s >= 4) }}, noShare: "no requests between two readings"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := &record{}
				result := run(t, newCluster(t), test.traffic.prometheus(time.Now()), test.edit, rec, forever)
				if result.Verdict != steadystate.Held {
					t.Fatalf("result %+v", result)
				}
				effect := effectOf(t, rec)
				if !strings.Contains(effect.NoShare, test.noShare) || (test.noShare == "") != (effect.Share != nil) {
					t.Fatalf("share %+v, no share: %q", effect.Share, effect.NoShare)
				}
				if effect.Share != nil && (math.Abs(effect.Share.Wanted-test.wanted) > 1e-9 || math.Abs(effect.Share.Achieved-test.achieved) > 1e-9) {
					t.Errorf("share %+v", effect.Share)
				}
			})
		})
	}
}

// A run that hits much less than the wanted share is inconclusive: by default less than
// half of it.
func TestTheLeastShare(t *testing.T) {
	for name, test := range map[string]struct {
		hit   float64 // of 10 requests a second; 5 are wanted
		least float64
		held  bool
	}{
		"all": {5, 0, true}, "a little more than half": {2.6, 0, true}, "a little less than half": {2.4, 0, false}, "a tenth": {0.5, 0, false},
		"a tenth is enough": {0.6, 0.1, true}, "most": {4.4, 0.9, false}, "nearly all": {4.6, 0.9, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := &record{}
				// The numbers are so large that chance does not explain them.
				calls := traffic{"-": func(s float64) float64 { return 1000*s - 100*test.hit*max(0, min(s, 23)-3) }, "FI": from(3, 100*test.hit)}
				result := run(t, newCluster(t), calls.prometheus(time.Now()), func(e *experiments.Experiment) {
					if test.least > 0 {
						least := experiments.Share(test.least)
						e.Spec.Effect.MinShare = &least
					}
				}, rec, forever)
				if want := "effect.minShare asks for"; (result.Verdict == steadystate.Held) != test.held || !test.held && (result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, want)) {
					t.Errorf("result %+v, share %+v", result, effectOf(t, rec).Share)
				}
			})
		})
	}
}

// A number of hits is complete only if all counters were scraped when no request could be
// hit any more.
func TestWhetherAllHitsAreCounted(t *testing.T) {
	for name, test := range map[string]struct {
		blind    bool // after the rollback
		complete bool
	}{"scraped": {false, true}, "not scraped": {true, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, rec := time.Now(), &record{}
				calls := traffic{"-": steady(5), "FI": from(3, 5)}
				run(t, newCluster(t), func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if second := math.Floor(time.Since(start).Seconds()); test.blind && second > 22 && strings.Contains(promql, "istio_requests_total") {
						return calls.at(start, 22), nil
					}
					return calls.prometheus(start)(ctx, promql)
				}, nil, rec, forever)
				if effect := effectOf(t, rec); effect.Complete != test.complete || effect.Requests < 90 {
					t.Errorf("effect %+v", effect)
				}
			})
		})
	}
}

// The growth of a counter stays counted when the counter disappears or is reset. The
// fault is active for 20 seconds, with 5 requests hit and 5 spared a second.
func TestCountersThatComeAndGo(t *testing.T) {
	const begin = 9 // of the fault
	for name, disturb := range map[string]func(second float64, asked int, traffic traffic) (float64, traffic){
		"nothing": func(second float64, _ int, all traffic) (float64, traffic) { return second, all },
		"a pod is replaced": func(second float64, _ int, all traffic) (float64, traffic) {
			if second < 19 {
				return second, traffic{"-/old": all["-"], "FI/old": all["FI"]}
			}
			return second, traffic{"-/new": between(19, 100, 5), "FI/new": between(19, begin+20, 5)}
		},
		"a proxy restarts": func(second float64, _ int, all traffic) (float64, traffic) {
			if second < 24 {
				return second, all
			}
			return second, traffic{"-": between(24, 100, 5), "FI": between(24, begin+20, 5)}
		},
		"replicas of Prometheus answer in turns": func(second float64, asked int, all traffic) (float64, traffic) {
			return second - float64(asked%2)*3, all
		},
		"nothing was scraped for a while": func(second float64, _ int, all traffic) (float64, traffic) {
			if second > 14 && second < 18 {
				return 14, all
			}
			return second, all
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, start := 0, time.Now()
				rec := &record{}
				result := run(t, newCluster(t), func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
					if !strings.Contains(promql, "istio_requests_total") {
						return traffic{}.prometheus(start)(ctx, promql)
					}
					asked++
					second, all := disturb(math.Floor(time.Since(start).Seconds()), asked, traffic{"-": func(s float64) float64 { return 1000 + 5*s }, "FI": between(begin, begin+20, 5)})
					return all.at(start, second), nil
				}, func(e *experiments.Experiment) {
					e.Spec.Effect.MinRequests, e.Spec.SteadyState.Before.Duration = 80, begin*time.Second
				}, rec, forever)
				effect := effectOf(t, rec)
				if result.Verdict != steadystate.Held || effect.Requests < 80 || effect.Requests > 100 {
					t.Errorf("result %+v, effect %+v", result, effect)
				}
				if effect.Share == nil || math.Abs(effect.Share.Achieved-0.5) > 0.05 || effect.Share.Requests > 200 {
					t.Errorf("share %+v, no share: %q", effect.Share, effect.NoShare)
				}
			})
		})
	}
}

func effectOf(t *testing.T, rec *record) event.Effect {
	t.Helper()
	for _, e := range rec.events {
		if effect, is := e.(event.Effect); is {
			return effect
		}
	}
	t.Fatal("no effect was recorded")
	return event.Effect{}
}

func TestWhyNoRequestWasHit(t *testing.T) {
	for name, test := range map[string]struct {
		traffic traffic
		status  event.Status
		reason  string
	}{
		"no calls at all":  {traffic{}, event.StatusCompleted, "it has no such calls"},
		"no calls then":    {traffic{"-": steady(0)}, event.StatusCompleted, "there were none in that time"},
		"others":           {traffic{"-": steady(5), "DC": steady(1)}, event.StatusCompleted, "none of 1"},
		"no flags to tell": {traffic{"none": steady(5)}, event.StatusRefused, "no label response_flags"},
		"no flags later":   {traffic{"none": from(10, 5)}, event.StatusCompleted, "no label response_flags"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				result := run(t, newCluster(t), test.traffic.prometheus(time.Now()), nil, &record{}, forever)
				if result.Status != test.status || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, test.reason) {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// One fault that hits does not hide another that hits nothing.
func TestEveryFaultMustHit(t *testing.T) {
	exact := "jason"
	for name, test := range map[string]struct {
		traffic traffic
		reason  string // empty when the run holds
	}{
		"both":                {traffic{"FI": from(3, 5), "DI": from(3, 2), "-": steady(5)}, ""},
		"both on one request": {traffic{"DI,FI": from(3, 5), "-": steady(5)}, ""},
		"no delay":            {traffic{"FI": from(3, 5), "-": steady(5)}, "the delay of calls to ratings.prod.svc.cluster.local hit no request"},
		"no abort":            {traffic{"DI": from(3, 5), "-": steady(5)}, "the abort of calls to ratings.prod.svc.cluster.local hit no request"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				result := run(t, newCluster(t), test.traffic.prometheus(time.Now()), func(e *experiments.Experiment) {
					delay := e.Spec.Faults[0]
					delay.Abort, delay.Delay = nil, &experiments.Delay{FixedDelay: experiments.Duration{Duration: time.Second}}
					delay.Match = []experiments.Match{{Headers: map[string]experiments.StringMatch{"end-user": {Exact: &exact}}}}
					e.Spec.Faults = append(e.Spec.Faults, delay)
				}, &record{}, forever)
				if (result.Verdict == steadystate.Held) != (test.reason == "") || !strings.Contains(result.Reason, test.reason) {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// Hits of an earlier fault do not count when they are scraped late: the scrape of a
// caller has failed for ten minutes.
func TestHitsOfAnEarlierFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		old := traffic{"FI": func(float64) float64 { return 731 }, "-": func(second float64) float64 { return 10000 + second }}
		result := run(t, newCluster(t), func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
			second := math.Floor(time.Since(start).Seconds())
			switch {
			case !strings.Contains(promql, "istio_requests_total"), second >= 8:
				return old.prometheus(start)(ctx, promql)
			case strings.Contains(promql, "[1h]"):
				return []steadystate.Sample{flagged("FI", 731), flagged("-", 10000)}, nil
			default:
				return nil, nil
			}
		}, nil, &record{}, forever)
		if result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "none of") {
			t.Errorf("result %+v", result)
		}
	})
}

// A counter that is not a finite number cannot be counted with.
func TestCountersMustBeNumbers(t *testing.T) {
	for name, test := range map[string]struct {
		counts []float64
		status event.Status
	}{
		"before the fault":    {[]float64{math.NaN(), 500}, event.StatusRefused},
		"without bounds":      {[]float64{math.Inf(-1), 500}, event.StatusRefused},
		"after the fault":     {[]float64{100, math.NaN()}, event.StatusCompleted},
		"without bounds then": {[]float64{100, math.Inf(1)}, event.StatusCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				lying := fakePrometheus(func(_ context.Context, promql string) ([]steadystate.Sample, error) {
					if !strings.Contains(promql, "istio_requests_total") {
						return now(), nil
					}
					return scraped(now()[0].Value, flagged("FI", test.counts[int(boolean(time.Since(start) >= 5*time.Second))])), nil
				})
				result := run(t, newCluster(t), lying, nil, &record{}, forever)
				if result.Status != test.status || result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "cannot be counted: Prometheus returned") {
					t.Errorf("result %+v", result)
				}
			})
		})
	}
}

// Failures of the target itself are not the effect of a blackhole.
func TestOrdinaryFailuresAreNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0.0
		ordinary := fakePrometheus(func(_ context.Context, promql string) ([]steadystate.Sample, error) {
			if !strings.Contains(promql, "istio_requests_total") {
				return now(), nil
			}
			calls++
			return scraped(now()[0].Value, flagged("DC", calls)), nil
		})
		result := run(t, newCluster(t), ordinary, func(e *experiments.Experiment) {
			all := experiments.Percentage(100)
			e.Spec.Faults = []experiments.Fault{{Blackhole: &experiments.Blackhole{Mode: experiments.Reject}, Percentage: &all}}
		}, &record{}, forever)
		if result.Verdict != steadystate.Inconclusive || !strings.Contains(result.Reason, "hit no request") {
			t.Errorf("result %+v", result)
		}
	})
}
