package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/internal/sleep"
)

// The metrics of istiod. Some versions add _total.
const (
	pushesSelector = `{__name__=~"pilot_xds_pushes(_total)?"}`
	// convergenceQuery returns the time in which 99 of 100 pushes have reached their
	// proxies, in seconds.
	convergenceQuery = `histogram_quantile(0.99, sum by (le) (increase(pilot_proxy_convergence_time_bucket[10m])))`
)

// pushes is how many configurations istiod has sent to proxies, as Prometheus has
// scraped it.
type pushes struct {
	count float64
	// scraped is the time of the oldest scrape of any istiod, and now the time of the
	// query, both by Prometheus' clock in Unix seconds.
	scraped, now float64
}

var errNoPushes = errors.New("Prometheus has no pilot_xds_pushes")

// pushes reads the counters of istiod.
func (d Doctor) pushes(ctx context.Context) (p pushes, err error) {
	if d.Prometheus == nil {
		return p, errNoPushes
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	for promql, into := range map[string]*float64{"time()": &p.now, "sum(" + pushesSelector + ")": &p.count, "min(timestamp(" + pushesSelector + "))": &p.scraped} {
		if *into, err = d.number(ctx, promql); err != nil {
			return p, err
		}
	}
	if p.scraped == 0 {
		return p, errNoPushes
	}
	return p, nil
}

// Limits of the wait for a push to show.
const (
	// pushTime is the time in which istiod is expected to push.
	pushTime = 5 * time.Second
	// longestWait is the longest time to wait for a scrape of istiod.
	longestWait = 90 * time.Second
)

// pushed checks whether istiod has pushed since before, when the proof of the heartbeat
// had created no object yet. It returns how long a push takes.
func (d Doctor) pushed(ctx context.Context, before pushes, scrapes measured, report func(Check)) (push measured) {
	const name = "istiod"
	const why = "proxies get a fault, and lose it after a rollback, only when istiod pushes"
	wait := longestWait
	if scrapes.known {
		wait = min(wait, 2*scrapes.Duration+2*pushTime)
	}
	for deadline := time.Now().Add(wait); ; {
		now, err := d.pushes(ctx)
		switch seen := now.scraped > before.now+pushTime.Seconds(); {
		case err == nil && before.scraped > 0 && now.count != before.count:
			if push = d.convergence(ctx); !push.known && time.Now().Before(deadline) {
				break // it is counted when a proxy has the push
			}
			check := ok(name, "pushes: to proxies %.0f times since squall doctor began", max(now.count-before.count, 1))
			if push.known {
				check.Detail += fmt.Sprintf("; 99 %% of the pushes of the last 10 minutes took at most %s", push.Duration)
			}
			report(check)
			return push
		case err != nil && !time.Now().Before(deadline), errors.Is(err, errNoPushes), before.scraped == 0:
			if err == nil {
				err = errNoPushes
			}
			report(warning(name, "it is not known whether it pushes: "+err.Error(), "let Prometheus scrape istiod; "+why))
			return push
		case seen || !time.Now().Before(deadline):
			report(warning(name, fmt.Sprintf("has pushed nothing to proxies although objects were created and deleted in namespace %s", d.Namespaces[0]), why+": check istiod and istioctl proxy-status; ignore this if no proxy runs in that namespace"))
			return push
		}
		if !sleep.For(ctx, time.Second) {
			return push
		}
	}
}

// convergence returns how long a push takes.
func (d Doctor) convergence(ctx context.Context) measured {
	seconds, err := d.number(ctx, convergenceQuery)
	if err != nil || !(seconds > 0) { // NaN without pushes
		return measured{}
	}
	return measured{Duration: time.Duration(seconds * float64(time.Second)).Round(10 * time.Millisecond), known: true}
}
