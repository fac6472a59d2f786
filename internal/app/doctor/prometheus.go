package doctor

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/prometheus/common/model"

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

// examinePrometheus runs the checks of Prometheus. It returns how often the callers'
// proxies are scraped.
func (d Doctor) examinePrometheus(ctx context.Context, report func(Check)) (scrapes measured) {
	const name = "Prometheus"
	if d.Prometheus == nil {
		report(failure(name, "no server is named", "use --prometheus http://HOST:9090 or set SQUALL_PROMETHEUS; a run needs it to check the hypothesis"))
		return scrapes
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	seconds, err := d.number(ctx, "time()")
	if err != nil {
		report(failure(name, err.Error(), "check --prometheus or SQUALL_PROMETHEUS"))
		return scrapes
	}
	after := time.Now()
	// Other servers with Prometheus's API may not report a version.
	version, _ := d.Prometheus.Version(ctx)
	report(ok(name, "%s answers: version %s", d.Prometheus.Address(), cmp.Or(version, "unknown")))
	report(clock("Prometheus", time.UnixMilli(int64(seconds*1000)), began, after))
	requests := d.requests(ctx)
	report(requests)
	if requests.Status == Failure {
		return scrapes
	}
	check, scrapes := d.scrapes(ctx)
	report(check)
	return scrapes
}

// scrapesWindow is the time in which scrapes are counted.
const scrapesWindow = 5 * time.Minute

// scrapesQuery returns a query for the number of scrapes of the proxy that was scraped
// most often.
func scrapesQuery() string {
	return fmt.Sprintf("max(count_over_time(%s[%s]))", telemetry.Selector(telemetry.Requests, telemetry.BySource), model.Duration(scrapesWindow))
}

// oldestQuery returns a query for the age of the last sample of the proxy that was
// scraped longest ago, in seconds.
func oldestQuery() string {
	return fmt.Sprintf("time() - min(timestamp(%s))", telemetry.Selector(telemetry.Requests, telemetry.BySource))
}

// scrapes measures how often the callers' proxies are scraped, and how old the values
// of the one are that was scraped longest ago.
func (d Doctor) scrapes(ctx context.Context) (Check, measured) {
	const name = "scrapes"
	count, err := d.number(ctx, scrapesQuery())
	var oldest float64
	if err == nil {
		oldest, err = d.number(ctx, oldestQuery())
	}
	if err != nil {
		return failure(name, err.Error(), "check that Prometheus answers such a query within seconds; a run sends similar ones"), measured{}
	}
	if count < 2 {
		return warning(name, "there are not two scrapes of the callers' proxies in the last 5 minutes", "a run needs two scrapes before its fault and two after it: scrape more often"), measured{}
	}
	interval := (scrapesWindow / time.Duration(count)).Round(time.Second / 10)
	age := time.Duration(oldest * float64(time.Second)).Round(time.Second / 10)
	check := ok(name, "the callers' proxies are scraped about every %s; the oldest value in use is %s old", interval, age)
	if interval > maxAge || age > maxAge {
		check.Status = Warning
		check.Hint = "a run waits for two scrapes of all proxies before its fault and after it: scrape more often, and check up for proxies whose scrapes fail"
	}
	return check, measured{Duration: interval, known: true}
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
