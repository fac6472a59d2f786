// Package clean finds out whether proxies inject faults into the calls of a plan:
// none may do so before a run, and none may go on after it.
package clean

import "github.com/squall-chaos/squall/runner/effect"

// Watch finds out from successive readings whether calls are hit. It counts only
// between two scrapes of each counter since a time.
type Watch struct {
	since  float64
	ledger *effect.Ledger
	// base is the first reading with all counters scraped since then and since the
	// last hit; nil before.
	base *effect.Reading
	// calls is the number of calls since base.
	calls float64
	// rate is the number of requests hit per second between the last two scrapes, and
	// from the latest time of an earlier one.
	rate, from float64
	done       bool
}

// NewWatch returns a watch for scrapes since a time, in Prometheus' time.
func NewWatch(since float64) *Watch { return &Watch{since: since, ledger: effect.NewLedger(since)} }

// Add adds a reading.
func (w *Watch) Add(now effect.Reading) {
	grown := w.ledger.Add(now)
	calls, hit := 0.0, false
	for _, g := range grown {
		calls += g.Amount
		hit = hit || g.Hit
	}
	switch {
	case hit:
		w.hit(grown)
	case w.base == nil:
		if oldest, found := now.Oldest(); found && oldest >= w.since {
			w.base, w.calls, w.rate, w.done = &now, 0, 0, false
		}
	default:
		w.calls += calls
		w.done = w.done || w.scrapedAgain(now)
	}
}

// hit adds the growth of counters of which some count hits.
func (w *Watch) hit(grown []effect.Growth) {
	w.base, w.done, w.rate = nil, false, 0
	w.from = 0
	for _, g := range grown {
		if g.Hit {
			w.rate += g.Amount / max(g.Scraped-g.From, 1)
			w.from = max(w.from, g.From)
		}
	}
}

// scrapedAgain reports whether each counter of a reading was scraped later than in
// base. Counters whose last scrape failed do not count, but at least one must have been
// scraped. If there are no counters, it reports whether a target was.
func (w *Watch) scrapedAgain(now effect.Reading) bool {
	again := false
	for key, c := range now.Counters {
		if c.Scraped == 0 {
			continue
		}
		if c.Scraped <= w.base.Counters[key].Scraped {
			return false
		}
		again = true
	}
	if len(now.Counters) > 0 {
		return again
	}
	before, _ := w.base.Oldest()
	last, _ := now.Oldest()
	return last > before
}

// Hit reports whether requests were hit between the last scrapes, and how many per
// second. from is the time of the earlier scrape.
func (w *Watch) Hit() (rate, from float64, hit bool) {
	return w.rate, w.from, w.base == nil && w.rate > 0
}

// Clean reports whether no request was hit between two scrapes of each counter. calls
// is the number of calls that were seen, and since the time from which they were not
// hit.
func (w *Watch) Clean() (calls, since float64, clean bool) {
	if !w.done {
		return 0, 0, false
	}
	for _, c := range w.base.Counters {
		since = max(since, c.Scraped)
	}
	return w.calls, max(since, w.since), true
}
