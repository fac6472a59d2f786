// Package effect reads from Istio's metrics what a fault does: which workloads call
// a host, how many requests a fault would hit, and how many it has hit.
//
// Every number is the growth of counters that the callers' side reports: an aborted
// request never arrives, so the destination does not count it.
package effect

import (
	"context"
	"fmt"
	"math"
	"time"

	steadystate "github.com/squall-chaos/squall/steady-state"
)

// A Query evaluates PromQL at Prometheus' present time, as steadystate.Querier
// does. It returns an error for a value that is not a finite number.
type Query func(ctx context.Context, promql string) ([]steadystate.Sample, error)

// queryTimeout limits one query.
const queryTimeout = 10 * time.Second

// QueryOf returns a query that a querier evaluates, within 10 seconds.
func QueryOf(q steadystate.Querier) Query {
	return func(ctx context.Context, promql string) ([]steadystate.Sample, error) {
		ctx, cancel := context.WithTimeout(ctx, queryTimeout)
		defer cancel()
		samples, err := q.Query(ctx, promql)
		if err != nil {
			return nil, err
		}
		for _, sample := range samples {
			if math.IsNaN(sample.Value) || math.IsInf(sample.Value, 0) {
				return nil, fmt.Errorf("Prometheus returned %v for %s", sample.Value, promql) //nolint:staticcheck // a name
			}
		}
		return samples, nil
	}
}

// Clock converts times of this machine to Prometheus' time.
type Clock struct {
	server float64   // in Unix seconds
	local  time.Time // when server was read
}

// ReadClock reads Prometheus' time. An error means that Prometheus does not
// answer.
func ReadClock(ctx context.Context, query Query) (Clock, error) {
	samples, err := query(ctx, "time()")
	if err != nil {
		return Clock{}, err
	}
	if len(samples) != 1 {
		return Clock{}, fmt.Errorf("time() returned %d series", len(samples))
	}
	return Clock{server: samples[0].Value, local: time.Now()}, nil
}

// at returns Prometheus' time, in Unix seconds, at a time of this machine.
func (c Clock) at(t time.Time) float64 { return c.server + t.Sub(c.local).Seconds() }
