package clean_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/runner/clean"
	"github.com/squall-chaos/squall/runner/effect"
	"github.com/squall-chaos/squall/runner/event"
)

// proxies are the proxies of callers, as Prometheus knows them: functions of the
// seconds since the start.
type proxies struct {
	began time.Time
	// interval is the time between two scrapes, 1 s by default. scraped is the second
	// from which there are any.
	interval, from float64
	calls, hits    func(second float64) float64
	fails          func(second float64) bool
	// cut is the second from which the scrapes of all proxies fail; 0 for none.
	cut float64
}

func (p *proxies) Read(context.Context) (effect.Reading, error) {
	now := time.Since(p.began).Seconds()
	if p.fails != nil && p.fails(now) {
		return effect.Reading{}, errors.New("Prometheus is down")
	}
	interval := max(p.interval, 1)
	at := float64(int(now/interval)) * interval
	if at < p.from {
		return effect.Reading{}, nil
	}
	reading := effect.Reading{Targets: map[string]float64{"a": at}, Counters: map[string]effect.Counter{}}
	if p.cut > 0 && now >= p.cut { // Prometheus has the old values only
		reading.Counters["calls"] = effect.Counter{Value: p.calls(p.cut)}
		return reading, nil
	}
	if p.calls != nil {
		reading.Counters["calls"] = effect.Counter{Value: p.calls(at), Scraped: at}
	}
	if p.hits != nil {
		reading.Counters["hits"] = effect.Counter{Value: p.hits(at), Scraped: at, Hit: true}
	}
	return reading, nil
}

func (*proxies) Check(effect.Reading) error { return nil }

func steady(rate float64) func(float64) float64 {
	return func(second float64) float64 { return rate * second }
}

// until grows by 10 a second until a time.
func until(last float64) func(float64) float64 {
	return func(second float64) float64 { return 1000 + 10*min(second, last) }
}

func TestBefore(t *testing.T) {
	for name, test := range map[string]struct {
		proxies proxies
		want    string
		took    time.Duration
	}{
		"clean":                        {proxies{calls: steady(5), hits: until(0)}, "", 3 * time.Second},
		"never hit":                    {proxies{calls: steady(5)}, "", 3 * time.Second},
		"no calls, but scraped":        {proxies{}, "", 3 * time.Second},
		"the last hits are long ago":   {proxies{calls: steady(5), hits: until(2)}, "", 3 * time.Second},
		"an earlier fault":             {proxies{calls: steady(5), hits: until(1000)}, "still injects a fault of an earlier run: 10.0 requests/s", 3 * time.Second},
		"every call is hit":            {proxies{hits: until(1000)}, "still injects a fault of an earlier run", 3 * time.Second},
		"scraped every 15 s":           {proxies{interval: 15, calls: steady(5), hits: until(0)}, "", 30 * time.Second},
		"an earlier fault, every 15 s": {proxies{interval: 15, calls: steady(5), hits: until(1000)}, "still injects a fault of an earlier run", 30 * time.Second},
		"not scraped":                  {proxies{from: 1000}, "has not scraped the callers'", time.Minute},
		"scraped late":                 {proxies{from: 20, calls: steady(5)}, "", 21 * time.Second},
		"scraped once":                 {proxies{interval: 45, from: 45, calls: steady(5)}, "has not scraped the callers'", time.Minute},
		"scrapes fail after the first": {proxies{calls: steady(5), cut: 3}, "has not scraped the callers'", time.Minute},
		"down":                         {proxies{fails: func(float64) bool { return true }}, "Prometheus is down", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.proxies.began = time.Now()
				err := clean.Before(t.Context(), &test.proxies, 2)
				if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v", err)
				}
				if took := time.Since(test.proxies.began); took != test.took {
					t.Errorf("took %s instead of %s", took, test.took)
				}
			})
		})
	}
}

// The rollback is at second 0. Hits count from second 2 on.
func TestAfter(t *testing.T) {
	brief := clean.Limits{Within: 30 * time.Second, Calls: true, Brief: true}
	for name, test := range map[string]struct {
		proxies proxies
		limits  clean.Limits
		want    event.Clean
		took    time.Duration
	}{
		"clean at once":             {proxies: proxies{calls: steady(5), hits: until(0.5)}, want: event.Clean{State: event.CleanSeen, Calls: 5, After: seconds(2)}, took: 3 * time.Second},
		"hits until they ended":     {proxies: proxies{calls: steady(5), hits: until(2)}, want: event.Clean{State: event.CleanSeen, Calls: 5, After: seconds(2)}, took: 3 * time.Second},
		"istiod is slow":            {proxies: proxies{calls: steady(5), hits: until(20)}, want: event.Clean{State: event.CleanSeen, Calls: 5, After: seconds(21)}, took: 22 * time.Second},
		"istiod does not push":      {proxies: proxies{calls: steady(5), hits: until(1000)}, want: event.Clean{State: event.CleanStillHit, Rate: 10}, took: 33 * time.Second},
		"no push, a user waits":     {proxies: proxies{calls: steady(5), hits: until(1000)}, limits: brief, want: event.Clean{State: event.CleanStillHit, Rate: 10}, took: 30 * time.Second},
		"no calls":                  {proxies: proxies{calls: steady(0), hits: until(0)}, want: event.Clean{State: event.CleanNoCalls}, took: 30 * time.Second},
		"no calls during the run":   {proxies: proxies{}, limits: clean.Limits{Within: 30 * time.Second}, want: event.Clean{State: event.CleanNoCalls}, took: 3 * time.Second},
		"calls come back":           {proxies: proxies{calls: func(s float64) float64 { return max(0, s-20) }}, want: event.Clean{State: event.CleanSeen, Calls: 1, After: seconds(2)}, took: 21 * time.Second},
		"scraped every 30 s":        {proxies: proxies{interval: 30, calls: steady(5), hits: until(0)}, want: event.Clean{State: event.CleanSeen, Calls: 150, After: seconds(30)}, took: 60 * time.Second},
		"no push, every 30 s":       {proxies: proxies{interval: 30, calls: steady(5), hits: until(1000)}, want: event.Clean{State: event.CleanStillHit, Rate: 10}, took: 90 * time.Second},
		"Prometheus dies":           {proxies: proxies{fails: func(float64) bool { return true }}, want: event.Clean{State: event.CleanUnobserved, Reason: "Prometheus is down"}, took: 30 * time.Second},
		"Prometheus is back":        {proxies: proxies{calls: steady(5), fails: func(s float64) bool { return s < 10 }}, want: event.Clean{State: event.CleanSeen, Calls: 5, After: seconds(10)}, took: 11 * time.Second},
		"the scrapes end":           {proxies: proxies{interval: 1000, calls: steady(5)}, want: event.Clean{State: event.CleanUnobserved, Reason: "Prometheus has not scraped the callers' istio_requests_total twice since"}, took: 150 * time.Second},
		"the scrapes fail":          {proxies: proxies{calls: steady(5), cut: 3}, want: event.Clean{State: event.CleanUnobserved, Reason: "Prometheus has not scraped the callers' istio_requests_total twice since"}, took: 150 * time.Second},
		"scrapes end, a user waits": {proxies: proxies{interval: 1000, calls: steady(5)}, limits: brief, want: event.Clean{State: event.CleanUnobserved, Reason: "Prometheus has not scraped the callers' istio_requests_total twice since"}, took: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.proxies.began = time.Now()
				limits := test.limits
				if limits == (clean.Limits{}) {
					limits = clean.Limits{Within: 30 * time.Second, Calls: true}
				}
				if got := clean.After(t.Context(), &test.proxies, 0, 2, limits); got != test.want {
					t.Errorf("%+v instead of %+v", got, test.want)
				}
				if took := time.Since(test.proxies.began); took != test.took {
					t.Errorf("took %s instead of %s", took, test.took)
				}
			})
		})
	}
}

func seconds(n int) experiments.Duration {
	return experiments.Duration{Duration: time.Duration(n) * time.Second}
}
