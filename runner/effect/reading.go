package effect

import (
	"context"
	"fmt"
	"maps"
	"math"

	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Reading is the counters of some calls as Prometheus has them at one moment. All
// times are Prometheus' times in Unix seconds.
type Reading struct {
	// Counters are the counters by their labels as text.
	Counters map[string]Counter
	// Targets are the times of the last scrape of each proxy of the callers that has
	// counted any request, also to other hosts.
	Targets map[string]float64
	// lacksFlags is true if there are counters, but none with response flags.
	lacksFlags bool
}

// Counter is the value of one counter.
type Counter struct {
	Value float64
	// Scraped is the time of its last scrape; 0 if the last scrape failed.
	Scraped float64
	// Hit reports that it counts requests that a fault has hit.
	Hit bool

	labels map[string]string
}

// target returns the proxy that the counter was scraped from, as in
// Reading.Targets.
func (c Counter) target() string { return targetOf(c.labels) }

// The labels that Prometheus adds to the series of a target. Recording rules and
// federation may drop them; then all proxies count as one target.
const (
	labelJob      = "job"
	labelInstance = "instance"
)

func targetOf(labels map[string]string) string { return labels[labelJob] + "/" + labels[labelInstance] }

// Oldest returns the time of the oldest scrape among the counters. If there are no
// counters, it returns the time of the last scrape of any target, and false if there
// is no target either.
func (r Reading) Oldest() (at float64, found bool) {
	at = math.Inf(1)
	for _, c := range r.Counters {
		if c.Scraped > 0 {
			at, found = min(at, c.Scraped), true
		}
	}
	if found || len(r.Counters) > 0 {
		return at, found
	}
	at = 0
	for _, scraped := range r.Targets {
		at, found = max(at, scraped), true
	}
	return at, found
}

// scrapedSince reports whether all counters were scraped at a time or later.
func (r Reading) scrapedSince(at float64) bool {
	oldest, found := r.Oldest()
	return found && oldest >= at
}

// read evaluates the queries of counters, of their times and of the targets' times
// together: several queries might be answered by several replicas of Prometheus.
func (all edges) read(ctx context.Context, query Query, counters string, q queries) (Reading, error) {
	samples, err := query(ctx, counters+or+q.times+or+q.targets)
	if err != nil {
		return Reading{}, err
	}
	now := Reading{Counters: map[string]Counter{}, Targets: map[string]float64{}}
	scraped := map[string]float64{}
	for _, s := range samples {
		labels := maps.Clone(s.Labels)
		delete(labels, "__name__") // timestamp() drops it
		kind := labels[timeLabel]
		delete(labels, timeLabel)
		switch kind {
		case timeOfCounter:
			scraped[fmt.Sprint(labels)] = s.Value // fmt prints maps in order
			now.scrapedTarget(labels, s)
		case timeOfTarget:
			now.scrapedTarget(labels, s)
		default:
			now.Counters[fmt.Sprint(labels)] = Counter{Value: s.Value, Hit: all.isHit(labels), labels: labels}
		}
	}
	for key, c := range now.Counters {
		c.Scraped = scraped[key]
		now.Counters[key] = c
	}
	now.lacksFlags = all.lackFlags(now)
	return now, nil
}

// scrapedTarget adds the time of a scrape of a target.
func (r Reading) scrapedTarget(labels map[string]string, s steadystate.Sample) {
	target := targetOf(labels)
	r.Targets[target] = max(r.Targets[target], s.Value)
}
