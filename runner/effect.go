package runner

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// queryTimeout bounds one query of the runner's own.
const queryTimeout = 10 * time.Second

// query asks Prometheus something besides the probes.
func (s *session) query(ctx context.Context, promql string) ([]steadystate.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return s.Querier.Query(ctx, promql)
}

// effectCount counts the requests that the fault hit: the callers' proxies
// flag them FI (aborted) and DI (delayed). The reporter is the source, because
// an aborted request never arrives anywhere.
type effectCount struct {
	query  string
	before []steadystate.Sample
}

// effectQuery looks five minutes back, as an instant query does, but past a
// scrape that failed: a counter that seems new would count from zero.
func effectQuery(plan mesh.Plan, fault experiments.Fault) string {
	flags := "FI|DI"
	switch {
	case fault.Delay == nil:
		flags = "FI"
	case fault.Abort == nil:
		flags = "DI"
	}
	var namespaces []string
	for _, d := range plan.Decisions {
		namespaces = append(namespaces, d.Callers)
	}
	sort.Strings(namespaces)
	return fmt.Sprintf(`last_over_time(istio_requests_total{reporter=~"source|waypoint",destination_service=%q,source_workload_namespace=~%q,response_flags=~"(.*,)?(%s)(,.*)?"}[5m])`,
		plan.Decisions[0].Host, strings.Join(namespaces, "|"), flags)
}

// startEffect reads the counters before the fault.
func (s *session) startEffect(ctx context.Context, plan mesh.Plan) (effectCount, *ending) {
	count := effectCount{query: effectQuery(plan, s.experiment.Spec.Faults[0])}
	if s.experiment.Spec.Effect.MinRequests == 0 {
		return count, nil
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
		select {
		case <-ctx.Done():
			return interrupted(ctx)
		case <-time.After(s.experiment.Spec.SteadyState.Interval.Duration):
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
	start := map[string]float64{}
	for _, s := range before {
		start[key(s.Labels)] = s.Value
	}
	total := 0.0
	for _, s := range after {
		if from := start[key(s.Labels)]; s.Value >= from {
			total += s.Value - from
		} else {
			total += s.Value
		}
	}
	return total
}

func key(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for name, value := range labels {
		pairs = append(pairs, name+"="+value)
	}
	sort.Strings(pairs)
	return strings.Join(pairs, "\x00")
}
