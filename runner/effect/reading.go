package effect

import (
	"context"
	"fmt"
	"maps"
	"math"
)

// reading is the values of the counters at one moment.
type reading struct {
	// scraped is the time of the oldest scrape among the counters, in Prometheus'
	// time; infinite when there are no counters.
	scraped  float64
	counters map[string]counter // by the labels as text
}

// counter is one counter.
type counter struct {
	labels map[string]string
	value  float64
	// scraped is when Prometheus scraped it; 0 when the last scrape failed.
	scraped float64
}

// scrapedSince reports whether there are counters, and each of them was scraped
// at a time or later.
func (r reading) scrapedSince(at float64) bool { return !math.IsInf(r.scraped, 1) && r.scraped >= at }

// read evaluates a query for counters together with the one for their times: two
// queries might be answered by two replicas of Prometheus.
func read(ctx context.Context, query Query, counters, times string) (reading, error) {
	samples, err := query(ctx, counters+" or "+times)
	if err != nil {
		return reading{}, err
	}
	now := reading{scraped: math.Inf(1), counters: map[string]counter{}}
	scraped := map[string]float64{}
	for _, s := range samples {
		labels := maps.Clone(s.Labels)
		delete(labels, "__name__") // timestamp() drops it
		if _, isTime := labels[timeLabel]; isTime {
			delete(labels, timeLabel)
			scraped[fmt.Sprint(labels)] = s.Value // fmt prints maps in order
			now.scraped = min(now.scraped, s.Value)
			continue
		}
		now.counters[fmt.Sprint(labels)] = counter{labels: labels, value: s.Value}
	}
	for key, c := range now.counters {
		c.scraped = scraped[key]
		now.counters[key] = c
	}
	return now, nil
}
