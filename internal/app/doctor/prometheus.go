package doctor

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/istio/telemetry"
)

// countQuery returns a query for the number of series from the callers' proxies, which
// alone report injected faults.
func countQuery(matchers ...telemetry.Matcher) string {
	selector := telemetry.Selector(telemetry.Requests, append([]telemetry.Matcher{telemetry.BySource}, matchers...)...)
	return fmt.Sprintf("count(last_over_time(%s[5m]))", selector)
}

// ageQuery returns a query for the age of the newest sample, in seconds.
func ageQuery() string {
	return fmt.Sprintf("time() - max(timestamp(%s))", telemetry.Selector(telemetry.Requests, telemetry.BySource))
}

// maxAge is the age of the newest sample that is not reported: with older samples a
// run detects a deviation late.
const maxAge = time.Minute

func (d Doctor) examinePrometheus(ctx context.Context, report func(Check)) {
	const name = "Prometheus"
	if d.Prometheus == nil {
		report(failure(name, "no server is named", "use --prometheus http://HOST:9090 or set SQUALL_PROMETHEUS; a run needs it to check the hypothesis"))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	seconds, err := d.number(ctx, "time()")
	if err != nil {
		report(failure(name, err.Error(), "check --prometheus or SQUALL_PROMETHEUS"))
		return
	}
	after := time.Now()
	// Other servers with Prometheus's API may not report a version.
	version, _ := d.Prometheus.Version(ctx)
	report(ok(name, "%s answers: version %s", d.Prometheus.Address(), cmp.Or(version, "unknown")))
	report(clock("Prometheus", time.UnixMilli(int64(seconds*1000)), began, after))
	report(d.requests(ctx))
}

// requests checks whether Prometheus would show a fault.
func (d Doctor) requests(ctx context.Context) Check {
	const name = "requests"
	failed := func(err error) Check {
		return failure(name, err.Error(), "check that Prometheus answers such a query within seconds; a run sends similar ones")
	}
	series, err := d.number(ctx, countQuery())
	if err != nil {
		return failed(err)
	}
	if series == 0 {
		return failure(name, "istio_requests_total has no series from the callers' proxies in the last 5 minutes", "let Prometheus scrape the proxies; without the series a run cannot prove that it hit requests (effect.minRequests: 0 needs no proof). Ignore this if there are no calls at the moment")
	}
	flagged, err := d.number(ctx, countQuery(telemetry.Flagged))
	if err != nil {
		return failed(err)
	}
	if flagged == 0 {
		return failure(name, "istio_requests_total lacks the label response_flags", "keep the label (Telemetry API, metric relabelling); without it a run cannot prove that it hit requests (effect.minRequests: 0 needs no proof)")
	}
	seconds, err := d.number(ctx, ageQuery())
	if err != nil {
		return failed(err)
	}
	age := time.Duration(seconds * float64(time.Second)).Round(time.Second / 10)
	check := ok(name, "istio_requests_total has %.0f series from the callers' proxies, %.0f of them with response_flags; the newest sample is %s old", series, flagged, age)
	if age > maxAge {
		check.Status = Warning
		check.Hint = "a run detects a deviation as late as that: scrape more often, or set a settle time for probes"
	}
	return check
}

// number returns the value of a query with at most one series, and 0 if it has none.
func (d Doctor) number(ctx context.Context, promql string) (float64, error) {
	samples, err := d.Prometheus.Query(ctx, promql)
	switch {
	case err != nil:
		return 0, err
	case len(samples) == 0:
		return 0, nil
	case len(samples) > 1:
		return 0, fmt.Errorf("%s returns %d series, want one", promql, len(samples))
	}
	return samples[0].Value, nil
}
