package runner

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/squall-chaos/squall/mesh"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// queryTimeout bounds one query of the runner's own.
const queryTimeout = 10 * time.Second

// effectCount counts the requests that the fault hit: the callers' proxies
// flag them FI (aborted) and DI (delayed). The reporter is the source, because
// an aborted request never arrives anywhere.
type effectCount struct {
	query  string
	before []steadystate.Sample
}

// readClock reads the server's time, which also shows that it answers.
func (s *session) readClock(ctx context.Context) error {
	samples, err := s.query(ctx, "time()")
	if err != nil {
		return err
	}
	if len(samples) != 1 {
		return fmt.Errorf("time() gives %d series", len(samples))
	}
	s.clock = samples[0].Value
	return nil
}

// callsSelector selects the counters of the calls from one namespace to some
// hosts, as the callers' side reports them.
func callsSelector(callers string, hosts []string, more string) string {
	return fmt.Sprintf(`istio_requests_total{reporter=~"source|waypoint",destination_service=~%q,source_workload_namespace=%q%s}`, anyOf(hosts), callers, more)
}

// scrapeTimes gives when the counters of all calls were read that the run may
// disturb.
func scrapeTimes(plan mesh.Plan) string {
	var parts []string
	for _, d := range plan.Decisions {
		parts = append(parts, "timestamp("+callsSelector(d.Callers, append([]string{d.Host}, d.Trace.Destinations...), "")+")")
	}
	return strings.Join(parts, " or ")
}

// effectQuery gives the counters of the requests that the run hits: those
// flagged as aborted or delayed, and those, with the connections, that were sent
// to the hosts that lead nowhere. It looks five
// minutes back, as an instant query does, but past a scrape that failed: a
// counter that seems new would count from zero.
func effectQuery(plan mesh.Plan) string {
	var parts []string
	for _, d := range plan.Decisions {
		var flags []string
		if d.Trace.Aborts {
			flags = append(flags, "FI")
		}
		if d.Trace.Delays {
			flags = append(flags, "DI")
		}
		if len(d.Trace.Blackholes) > 0 {
			parts = append(parts, callsSelector(d.Callers, d.Trace.Blackholes, ""), strings.Replace(callsSelector(d.Callers, d.Trace.Blackholes, ""), "istio_requests_total", "istio_tcp_connections_opened_total", 1))
		}
		if len(flags) == 0 {
			continue
		}
		flagged := fmt.Sprintf(`,response_flags=~"(.*,)?(%s)(,.*)?"`, strings.Join(flags, "|"))
		parts = append(parts, callsSelector(d.Callers, append([]string{d.Host}, d.Trace.Destinations...), flagged))
	}
	for i, part := range parts {
		parts[i] = "last_over_time(" + part + "[5m])"
	}
	return strings.Join(parts, " or ")
}

// afterglow is how long after its rollback an earlier fault may still hit:
// until every proxy has heard of it.
const afterglow = 2 * time.Second

// scrapeTimeout is how long a run waits for the counters to be read again.
const scrapeTimeout = time.Minute

// startEffect reads the counters before the fault. What an earlier fault hit
// stands in them only after the next scrape, so it waits until there was one
// of every caller since the run has started; a baseline is usually longer.
func (s *session) startEffect(ctx context.Context, plan mesh.Plan) (effectCount, *ending) {
	count := effectCount{query: effectQuery(plan)}
	if s.experiment.Spec.Effect.MinRequests == 0 {
		return count, nil
	}
	for deadline := time.Now().Add(scrapeTimeout); ; {
		scraped, err := s.query(ctx, "min("+scrapeTimes(plan)+")")
		if err != nil {
			return count, s.fail(ctx, RefusedRun, fmt.Errorf("the requests hit cannot be counted: %w", err))
		}
		if len(scraped) == 0 || scraped[0].Value >= s.clock+afterglow.Seconds() {
			break
		}
		if !time.Now().Before(deadline) {
			return count, &ending{RefusedRun, fmt.Sprintf("Prometheus has not scraped the callers' istio_requests_total for %s, so the requests hit could not be counted", scrapeTimeout), "nothing was injected; check the scrape of the callers' proxies, or set effect.minRequests to 0"}
		}
		if !pause(ctx, min(s.experiment.Spec.SteadyState.Interval.Duration, time.Second)) {
			return count, interrupted(ctx)
		}
	}
	samples, err := s.query(ctx, count.query)
	if err != nil {
		return count, s.fail(ctx, RefusedRun, fmt.Errorf("the requests hit cannot be counted: %w", err))
	}
	count.before = samples
	return count, nil
}

// proveEffect compares the counters with those before the fault. Prometheus
// reads them only once in a scrape interval, so as long as they say too little
// they are read again, until the time for recovery has passed.
func (s *session) proveEffect(ctx context.Context, count effectCount) *ending {
	minimum := s.experiment.Spec.Effect.MinRequests
	if minimum == 0 {
		return nil
	}
	s.record.add(EventPhase, Phase{Name: PhaseEffect})
	effect := Effect{Query: count.query}
	deadline := time.Now().Add(s.experiment.Spec.Recovery.Within.Duration)
	for {
		samples, err := s.query(ctx, count.query)
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		if err != nil {
			effect.Verdict, effect.Reason = steadystate.Inconclusive, "the requests hit cannot be counted: "+err.Error()
		} else {
			effect.Requests = increase(count.before, samples)
			effect.Verdict, effect.Reason = judgeEffect(effect.Requests, minimum)
		}
		if effect.Verdict == steadystate.Held || !time.Now().Before(deadline) {
			break
		}
		if !pause(ctx, s.experiment.Spec.SteadyState.Interval.Duration) {
			return interrupted(ctx)
		}
	}
	s.effect = &effect
	s.record.add(EventEffect, effect)
	return nil
}

func judgeEffect(requests float64, minimum int) (steadystate.Verdict, string) {
	switch {
	case requests >= float64(minimum):
		return steadystate.Held, ""
	case requests == 0:
		return steadystate.Inconclusive, "the fault hit no request, as far as istio_requests_total can tell"
	default:
		return steadystate.Inconclusive, fmt.Sprintf("the fault hit %.0f requests; effect.minRequests asks for %d", requests, minimum)
	}
}

// increase adds up how much each counter grew. A counter that was not there
// before started at 0, and one that shrank was reset to 0 in between.
func increase(before, after []steadystate.Sample) float64 {
	start := map[string]float64{} // by the labels, which fmt prints in order
	for _, s := range before {
		start[fmt.Sprint(s.Labels)] = s.Value
	}
	total := 0.0
	for _, s := range after {
		if from := start[fmt.Sprint(s.Labels)]; s.Value >= from {
			total += s.Value - from
		} else {
			total += s.Value
		}
	}
	return total
}
