// Package runner carries out one experiment: preflight, baseline, inject, observe,
// roll back, recover, and the proof that requests were hit. It always rolls back,
// and records an action before it takes it.
//
// It reaches the cluster and Prometheus through the interfaces that it declares.
package runner

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/effect"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
	"github.com/squall-chaos/squall/runner/keep"
	"github.com/squall-chaos/squall/runner/lately"
	"github.com/squall-chaos/squall/runner/removal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Cluster is the cluster that a run injects faults into.
type Cluster interface {
	// Name returns the name of the cluster in the journal, such as the URL of its
	// API server.
	Name() string
	Mesh
	Holds
	Creator
	Rivals
	heartbeat.Cluster
	keep.Cluster
	removal.Deleter
}

// Timing is how long the parts of a run may take.
type Timing struct {
	// Beat is the interval of the heartbeats. Deadline is how long after the last
	// heartbeat the cluster removes the fault.
	Beat, Deadline time.Duration
	// Grace is how long heartbeats go on after the end of the experiment.
	Grace time.Duration
	// Rollback is the longest time that a rollback takes.
	Rollback time.Duration
	// Clean is how long after a rollback calls may still be hit.
	Clean time.Duration
	// Settle is the pause between deleting a VirtualService and deleting the
	// ServiceEntries that it routes to: proxies apply the first only after a while.
	Settle time.Duration
}

// DefaultTiming returns a timing with which a fault is gone 20 seconds after the
// runner has died.
func DefaultTiming() Timing {
	return Timing{Beat: 5 * time.Second, Deadline: 15 * time.Second, Grace: 30 * time.Second, Rollback: 30 * time.Second, Clean: 30 * time.Second, Settle: time.Second}
}

// Silence is how long a heartbeat does not move when its runner is dead.
func (t Timing) Silence() time.Duration { return t.Deadline + t.Beat }

// check returns an error for a timing with which a run could not be guarded.
func (t Timing) check() error {
	switch {
	case t.Beat <= 0, t.Deadline <= 0, t.Grace <= 0, t.Rollback <= 0, t.Clean <= 0, t.Settle < 0:
		return errors.New("runner: the timing is incomplete")
	case t.Beat >= t.Deadline:
		return fmt.Errorf("runner: a heartbeat every %s comes too late for a deadline of %s", t.Beat, t.Deadline)
	default:
		return nil
	}
}

// Config is what a runner needs.
type Config struct {
	Cluster Cluster
	// Querier evaluates the probes, and what is read from Istio's metrics.
	Querier steadystate.Querier
	// Alerts knows the alerting rules; nil if there is no such source.
	Alerts steadystate.AlertSource
	// Prometheus is the address of the server, for the journal.
	Prometheus string
	// Version is the version of Squall.
	Version string
	// Owner is who starts the runs. It is written to their objects.
	Owner  string
	Timing Timing
	// Permit returns an error if a plan may not be carried out, beside what the
	// cluster permits. Nil permits every plan.
	Permit func(mesh.Plan) error
	// Options are the options of plans.
	Options mesh.Options
	// WithoutHeartbeat makes runs without the Jobs that remove the fault when the
	// runner dies. It is recorded.
	WithoutHeartbeat bool
	// HeartbeatImage is the image in the heartbeat Jobs, which have no pod; empty
	// means objects.HeartbeatImage.
	HeartbeatImage string
}

// Runner carries out experiments. It is safe for concurrent use.
type Runner struct {
	config  Config // complete
	planner *Planner
	query   effect.Query
	lately  lately.Run
}

// New returns a runner. It returns an error for a config that lacks the cluster,
// the querier or a part of the timing.
func New(config Config) (*Runner, error) {
	if config.Cluster == nil {
		return nil, errors.New("runner: no cluster")
	}
	planner, err := NewPlanner(PlannerConfig{Mesh: config.Cluster, Querier: config.Querier, Options: config.Options, WithoutHeartbeat: config.WithoutHeartbeat})
	if err != nil {
		return nil, err
	}
	if err := config.Timing.check(); err != nil {
		return nil, err
	}
	config.HeartbeatImage = cmp.Or(config.HeartbeatImage, objects.HeartbeatImage)
	if config.Permit == nil {
		config.Permit = func(mesh.Plan) error { return nil }
	}
	return &Runner{config: config, planner: planner, query: effect.QueryOf(config.Querier)}, nil
}

// NewRun returns the next run of an experiment: its id, which no other run has,
// and when its fault is gone at the latest.
func (r *Runner) NewRun(e experiments.Experiment, now time.Time) objects.Run {
	return r.config.NewRun(e, now)
}

// NewRun returns the next run of an experiment, as a runner with this config does.
func (c Config) NewRun(e experiments.Experiment, now time.Time) objects.Run {
	var random [3]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	name := e.Metadata.Name
	if len(name) > 32 {
		name = name[:32]
	}
	return objects.Run{
		ID:         fmt.Sprintf("%s-%s-%s", now.UTC().Format(event.IDTime), name, hex.EncodeToString(random[:])),
		Experiment: e.Metadata.Name,
		Owner:      c.Owner,
		Expires:    now.Add(e.Spec.SteadyState.Before.Duration + e.Spec.Duration.Duration + c.Timing.Grace),
	}
}

// Run carries out an experiment and returns the result, which it also records as
// the last event. When ctx is done, it rolls back and returns.
func (r *Runner) Run(ctx context.Context, run objects.Run, e experiments.Experiment, recorder event.Recorder) event.Result {
	s := &session{
		config: r.config, planner: r.planner, query: r.query,
		run: run, experiment: e, before: r.lately.InWords(time.Now()), record: event.NewQueue(recorder), probes: e.Spec.Measured(), evaluated: map[string]time.Time{},
	}
	result := s.conclude(s.execute(ctx))
	result.Finished = time.Now().UTC().Truncate(time.Millisecond)
	r.lately.Add(run.ID, result)
	s.record.Add(event.Finished{Result: result})
	if err := s.record.Flush(); err != nil && result.Status == event.StatusCompleted {
		result.Status, result.Reason = event.StatusFailed, "the record is incomplete: "+err.Error()
		result.Verdict = max(result.Verdict, steadystate.Inconclusive)
	}
	return result
}
