package preview

import (
	"context"
	"errors"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh"
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

// read returns the rates of the calls that a decision is about, or nil if they are
// unknown.
func (t *Traffic) read(ctx context.Context, d mesh.Decision) (traffic *effect.Traffic) {
	if t.querier != nil {
		traffic, t.failure = effect.ReadTraffic(ctx, t.querier, d.Injections, d.Host, d.Callers)
	}
	if t.failure != nil && ctx.Err() == nil {
		t.report(t.failure)
		t.querier, t.failure = nil, nil
	}
	return traffic
}
