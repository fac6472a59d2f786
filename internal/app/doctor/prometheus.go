package doctor

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// The queries. Only the callers' own proxies report what they injected.
const (
	requestsQuery = `count(last_over_time(istio_requests_total{reporter=~"source|waypoint"}[5m]))`
	flaggedQuery  = `count(last_over_time(istio_requests_total{reporter=~"source|waypoint",response_flags!=""}[5m]))`
	ageQuery      = `time() - max(timestamp(istio_requests_total{reporter=~"source|waypoint"}))`
)

// maxAge is how old the newest sample may be: older ones show a deviation, and
// its end, only late.
const maxAge = time.Minute

func (d Doctor) examinePrometheus(ctx context.Context, report func(Check)) {
	const name = "Prometheus"
	if d.Prometheus == nil {
		report(Check{name, Failure, "no server is named", "--prometheus http://HOST:9090 or SQUALL_PROMETHEUS; without it nothing would notice that the system suffers"})
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	seconds, err := d.number(ctx, "time()")
	if err != nil {
		report(Check{name, Failure, err.Error(), "check --prometheus or SQUALL_PROMETHEUS"})
		return
	}
	after := time.Now()
	// Servers that only speak Prometheus' API need not know a version.
	version, _ := d.Prometheus.Version(ctx)
	report(ok(name, "%s answers: version %s", d.Prometheus.Address(), cmp.Or(version, "unknown")))
	report(clock("Prometheus", time.UnixMilli(int64(seconds*1000)), began, after))
	report(d.requests(ctx))
}

// requests checks that Prometheus would show a fault.
func (d Doctor) requests(ctx context.Context) Check {
	const name = "requests"
	failed := func(err error) Check {
		return Check{name, Failure, err.Error(), "the query must answer within a few seconds; a run asks the like"}
	}
	series, err := d.number(ctx, requestsQuery)
	if err != nil {
		return failed(err)
	}
	if series == 0 {
		return Check{name, Failure, "istio_requests_total has no series of the callers' proxies in the last 5 minutes", "let Prometheus scrape the proxies; if nobody calls anybody just now, that is fine, else no run could prove its effect (effect.minRequests: 0 asks for no proof)"}
	}
	flagged, err := d.number(ctx, flaggedQuery)
	if err != nil {
		return failed(err)
	}
	if flagged == 0 {
		return Check{name, Failure, "istio_requests_total lacks the label response_flags", "do not remove the label (telemetry configuration or metric relabelling); without it no run could prove its effect (effect.minRequests: 0 asks for no proof)"}
	}
	seconds, err := d.number(ctx, ageQuery)
	if err != nil {
		return failed(err)
	}
	age := time.Duration(seconds * float64(time.Second)).Round(time.Second / 10)
	check := ok(name, "istio_requests_total has %.0f series of the callers' proxies, %.0f of them with response_flags; the newest sample is %s old", series, flagged, age)
	if age > maxAge {
		check.Status = Warning
		check.Hint = "a run sees what happens only as late as that: give probes a settle time, or scrape more often"
	}
	return check
}

// number asks for one number; nothing counts as 0.
func (d Doctor) number(ctx context.Context, promql string) (float64, error) {
	samples, err := d.Prometheus.Query(ctx, promql)
	switch {
	case err != nil:
		return 0, err
	case len(samples) == 0:
		return 0, nil
	case len(samples) > 1:
		return 0, fmt.Errorf("%s gives %d series instead of one", promql, len(samples))
	}
	return samples[0].Value, nil
}
