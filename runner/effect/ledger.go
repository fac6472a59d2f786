package effect

import "maps"

// Ledger computes the growth of counters between scrapes, from a time on.
type Ledger struct {
	// since is the time from which scrapes count.
	since float64
	// last has the counters as they were last read, also those that have gone with
	// their pod.
	last map[string]Counter
	// targets has the time of the last scrape of each target.
	targets map[string]float64
}

// NewLedger returns a ledger for scrapes since a time, in Prometheus' time.
func NewLedger(since float64) *Ledger {
	return &Ledger{since: since, last: map[string]Counter{}, targets: map[string]float64{}}
}

// Growth is how much a counter has grown between two scrapes.
type Growth struct {
	Counter
	Amount float64
	// From is the time of the earlier scrape, and Scraped of the later one.
	From float64
}

// Add adds a reading, and returns the counters that have grown since the last one.
func (l *Ledger) Add(now Reading) []Growth {
	var all []Growth
	for key, c := range now.Counters {
		if g := l.growth(key, c); g.Amount > 0 {
			all = append(all, g)
		}
	}
	maps.Copy(l.targets, now.Targets)
	return all
}

// growth returns how much a counter has grown between two scrapes since the start of
// the ledger. A counter with an older scrape comes from a replica of Prometheus that
// is behind.
func (l *Ledger) growth(key string, now Counter) Growth {
	last, known := l.last[key]
	switch {
	case known && now.Scraped == 0 && now.Value <= last.Value, known && now.Scraped != 0 && now.Scraped <= last.Scraped:
		return Growth{}
	case known && now.Scraped == 0:
		now.Scraped = last.Scraped
	}
	l.last[key] = now
	from, amount := last.Scraped, now.Value-last.Value
	switch {
	case known && last.Scraped >= l.since && amount < 0: // it was reset to 0 in between
		amount = now.Value
	case known && last.Scraped >= l.since:
	case !known && l.targets[now.target()] >= l.since:
		// Its target was scraped without it, so it began at 0 afterwards.
		from, amount = l.targets[now.target()], now.Value
	default:
		// Its count may be older than the ledger.
		return Growth{}
	}
	return Growth{Counter: now, Amount: amount, From: from}
}
