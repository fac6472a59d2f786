package preview

import (
	"context"
	"errors"
	"slices"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/advice"
	"github.com/squall-chaos/squall/runner/effect"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// ErrNoServer is why the rates are unknown if no Prometheus is named.
var ErrNoServer = errors.New("neither --prometheus nor SQUALL_PROMETHEUS names a server")

// Traffic reads from Prometheus how many requests faults would hit. A plan is useful
// without that: after the first failure it does not query any more.
type Traffic struct {
	querier steadystate.Querier // nil if there is no server to query
	// failure is why the rates are unknown. It is reported once.
	failure error
	report  func(error)
}

// NewTraffic returns a Traffic that queries a server, or none if querier is nil.
// It calls report at most once, with the reason why rates are unknown.
func NewTraffic(querier steadystate.Querier, report func(error)) *Traffic {
	t := &Traffic{querier: querier, report: report}
	if querier == nil {
		t.failure = ErrNoServer
	}
	return t
}

// Query implements steadystate.Querier, by which a planner finds the callers that an
// experiment does not name.
func (t *Traffic) Query(ctx context.Context, promql string) ([]steadystate.Sample, error) {
	if t.querier == nil {
		return nil, hint.With(errors.New("no Prometheus server answers"), "name spec.callers, or a server with --prometheus or SQUALL_PROMETHEUS")
	}
	return t.querier.Query(ctx, promql)
}

// silent returns a sentence for each set of callers that has not called the target. It
// returns none if that is unknown.
func (t *Traffic) silent(ctx context.Context, decisions []mesh.Decision) []string {
	if t.querier == nil {
		return nil
	}
	found, err := effect.Silent(ctx, effect.QueryOf(t.querier), decisions)
	if err != nil {
		return nil // read reports a server that does not answer
	}
	return found
}

// read returns the rates of the calls that a decision is about, or nil if they are
// unknown.
func (t *Traffic) read(ctx context.Context, d mesh.Decision) (traffic *effect.Traffic) {
	if t.querier != nil {
		traffic, t.failure = effect.ReadTraffic(ctx, t.querier, weighted(d), d.Host, d.Callers)
	}
	if t.failure != nil && ctx.Err() == nil {
		t.report(t.failure)
		t.querier, t.failure = nil, nil
	}
	return traffic
}

// weighted returns the injections of a decision with percentages of all calls: an
// injection for a subset hits at most the share of the calls that a route sends there.
func weighted(d mesh.Decision) experiments.Injections {
	injections := slices.Clone(d.Injections)
	for i, one := range injections {
		if one.Target.Subset != "" {
			injections[i].Percentage *= advice.SubsetShare(d.Before, one.Target.Subset)
		}
	}
	return injections
}
