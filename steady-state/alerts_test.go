package steadystate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/experiments"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// rules is an AlertSource with one answer.
type rules struct {
	alerts steadystate.Alerts
	err    error
}

func (r rules) Alerts(_ context.Context, labels map[string]string) (steadystate.Alerts, error) {
	if labels["severity"] != "critical" {
		return steadystate.Alerts{}, errors.New("unexpected labels")
	}
	return r.alerts, r.err
}

// The absence of alerts is a result only if a rule could fire.
func TestStopConditionsOnAlerts(t *testing.T) {
	quiet, firing := value(0), value(2)
	boom := errors.New("boom")
	for _, test := range []struct {
		name   string
		series answer
		rules  rules
		noData experiments.NoData
		want   steadystate.Verdict
		reason string
	}{
		{name: "quiet", series: quiet, rules: rules{alerts: steadystate.Alerts{Rules: 2}}},
		{name: "firing in ALERTS alone", series: firing, rules: rules{}, want: steadystate.Deviated, reason: "2 is above 0"},
		{name: "firing by the rules alone", series: quiet, rules: rules{alerts: steadystate.Alerts{Rules: 2, Firing: []string{"Down"}}}, want: steadystate.Deviated, reason: "1 firing: Down"},
		{name: "firing in both", series: firing, rules: rules{alerts: steadystate.Alerts{Rules: 2, Firing: []string{"Down", "Slow"}}}, want: steadystate.Deviated, reason: "2 firing: Down, Slow"},
		{name: "no rule could fire", series: quiet, rules: rules{}, want: steadystate.Inconclusive, reason: `no alerting rule fires alerts with severity="critical"`},
		{name: "no rule could fire, and that is fine", series: quiet, rules: rules{}, noData: experiments.NoDataPass},
		{name: "no rule could fire, and that is a failure", series: quiet, rules: rules{}, noData: experiments.NoDataFail, want: steadystate.Deviated, reason: "no alerting rule"},
		{name: "a rule is broken", series: quiet, rules: rules{alerts: steadystate.Alerts{Rules: 1, Broken: []string{"Down: many-to-many"}}}, want: steadystate.Inconclusive, reason: "a rule cannot be evaluated: Down: many-to-many"},
		{name: "a rule is broken, and another fires", series: quiet, rules: rules{alerts: steadystate.Alerts{Rules: 2, Broken: []string{"Down: boom"}, Firing: []string{"Slow"}}}, want: steadystate.Deviated, reason: "1 firing: Slow"},
		{name: "a server without rules", series: quiet, rules: rules{err: steadystate.ErrNoRules}},
		{name: "a server without rules, firing", series: firing, rules: rules{err: steadystate.ErrNoRules}, want: steadystate.Deviated, reason: "2 is above 0"},
		{name: "rules that cannot be read", series: quiet, rules: rules{err: boom}, want: steadystate.Inconclusive, reason: "alerting rules: boom"},
		{name: "ALERTS cannot be read", series: answer{err: boom}, rules: rules{alerts: steadystate.Alerts{Rules: 1}}, want: steadystate.Inconclusive, reason: "boom"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				condition := experiments.StopCondition{Name: "no page", Alerts: map[string]string{"severity": "critical"}, NoData: test.noData}.Probe()
				w := steadystate.Watcher{
					Querier: &script{answers: map[string][]answer{condition.Query: {test.series}}}, Alerts: test.rules,
					Interval: time.Second, Record: func(steadystate.Measurement) {},
				}
				findings := w.Watch(t.Context(), []experiments.Probe{condition}, experiments.Before, 0)
				if findings[0].Verdict != test.want || !strings.Contains(findings[0].Reason, test.reason) || (test.reason == "") != (findings[0].Reason == "") {
					t.Errorf("findings %+v", findings)
				}
			})
		})
	}
}

// A repeated answer of a cache has no information about the time since.
func TestAnAnswerFromACacheIsStale(t *testing.T) {
	for name, test := range map[string]struct {
		ages []time.Duration // the age of each answer, taken a second after the last
		want steadystate.Verdict
	}{
		"evaluated anew":                  {[]time.Duration{0, 0, 0}, steadystate.Held},
		"a clock that is behind":          {[]time.Duration{time.Minute, time.Minute, time.Minute}, steadystate.Held},
		"the same again":                  {[]time.Duration{0, time.Second, 0}, steadystate.Inconclusive},
		"replicas whose clocks differ":    {[]time.Duration{0, 5 * time.Second, 0}, steadystate.Held},
		"the same again, of an hour ago":  {[]time.Duration{time.Hour, time.Hour + time.Second, time.Hour + 2*time.Second}, steadystate.Inconclusive},
		"always an hour ago":              {[]time.Duration{time.Hour, time.Hour, time.Hour}, steadystate.Inconclusive},
		"a clock that is 9 minutes ahead": {[]time.Duration{-9 * time.Minute, -9 * time.Minute, -9 * time.Minute}, steadystate.Held},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				cached := querier(func() []steadystate.Sample {
					asked++
					return []steadystate.Sample{{Value: 1, Time: time.Now().Add(-test.ages[asked-1])}}
				})
				w := steadystate.Watcher{Querier: cached, Interval: time.Second, Record: func(steadystate.Measurement) {}}
				findings := w.Watch(t.Context(), []experiments.Probe{probe(nil)}, experiments.Before, 2*time.Second)
				if findings[0].Verdict != test.want || (test.want != steadystate.Held) != strings.HasPrefix(findings[0].Reason, "stale: ") {
					t.Errorf("findings %+v", findings)
				}
			})
		})
	}
}

// A time that is not the present has no verdict, and the reason has its age. The
// Unix epoch is a time, too.
func TestAnAnswerIsOfThePresent(t *testing.T) {
	for want, age := range map[string]time.Duration{
		"stale: the answer is 1h0m0s old":       time.Hour,
		"the answer is 8760h0m0s in the future": -365 * 24 * time.Hour,
		"stale: the answer is ":                 -1, // of the epoch
	} {
		synctest.Test(t, func(t *testing.T) {
			answers := querier(func() []steadystate.Sample {
				at := time.Now().Add(-age)
				if age == -1 {
					at = time.Unix(0, 0)
				}
				return []steadystate.Sample{{Value: 1, Time: at}}
			})
			w := steadystate.Watcher{Querier: answers, Interval: time.Second, Record: func(steadystate.Measurement) {}}
			findings := w.Watch(t.Context(), []experiments.Probe{probe(nil)}, experiments.Before, 500*time.Millisecond)
			if findings[0].Verdict != steadystate.Inconclusive || !strings.HasPrefix(findings[0].Reason, want) {
				t.Errorf("findings %+v", findings)
			}
		})
	}
}

type querier func() []steadystate.Sample

func (q querier) Query(context.Context, string) ([]steadystate.Sample, error) { return q(), nil }

// A cached answer from before the rollback does not count after it.
func TestACacheDoesNotTellOfTheRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		evaluated := time.Now()
		cached := querier(func() []steadystate.Sample {
			if time.Since(evaluated) >= 5*time.Second {
				evaluated = time.Now()
			}
			return []steadystate.Sample{{Value: 1, Time: evaluated}}
		})
		w := steadystate.Watcher{Querier: cached, Interval: 5 * time.Second, Record: func(steadystate.Measurement) {}, Evaluated: map[string]time.Time{}}
		probes := []experiments.Probe{probe(nil)}
		if findings := w.Watch(t.Context(), probes, experiments.During, 20*time.Second); findings[0].Verdict != steadystate.Held {
			t.Errorf("during: %+v", findings)
		}
		if findings, took := w.Recover(t.Context(), probes, time.Minute); findings[0].Verdict != steadystate.Held || took != 5*time.Second {
			t.Errorf("after %s: %+v", took, findings)
		}
	})
}
