// Package runs carries out the live runs of a replica: it starts and stops them,
// follows their events, sends notifications, and removes what expired runs have
// left in the cluster.
package runs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Starts stores which starts by schedule were handled.
type Starts interface {
	// Handled marks a start as handled; it is stored later.
	Handled(experiment string, nominal time.Time)
	// StoreHandled stores a start as handled. After an error it is not handled.
	StoreHandled(ctx context.Context, experiment string, nominal time.Time) error
}

// Records keeps the records of runs.
type Records interface {
	// Create begins the record of a run.
	Create(run string) (*journal.Writer, error)
	// Finish ends it. The journal is closed.
	Finish(run string)
}

// Cluster has the runs of all processes.
type Cluster interface {
	// ActiveRuns returns the runs that have objects in the cluster.
	ActiveRuns(ctx context.Context) ([]objects.ActiveRun, error)
	// Remove deletes the objects of runs, on behalf of owner.
	Remove(ctx context.Context, runs []objects.ActiveRun, owner string) error
}

// Metrics counts runs.
type Metrics interface {
	Finished(experiment string, result event.Result, took time.Duration)
	// Live sets the number of live runs, and of those with an active fault.
	Live(runs, faults int)
	// Swept counts a sweep that has removed a number of objects.
	Swept(objects int, err error)
}

// Config has the parts of a Live.
type Config struct {
	// Runner configures the runs. Its Owner and Permit are set for each run.
	Runner  runner.Config
	Starts  Starts
	Records Records
	Cluster Cluster
	// Emit writes a Kubernetes Event.
	Emit func(ctx context.Context, event Event) error
	// Notify sends a notification. Runs call it, so it must not block.
	Notify  func(notify.Event)
	Metrics Metrics
	// Identity is the name of this process.
	Identity string
	// ExternalURL is the URL of the status page for users; empty when unknown.
	ExternalURL string
	Log         *slog.Logger
}

// Live holds the live runs of a replica. It is safe for concurrent use.
type Live struct {
	config Config
	tasks  sync.WaitGroup

	mu   sync.Mutex
	runs map[string]*run // by id
	left []objects.Left
	// others are of the last Look.
	others Others
}

// New returns a Live without runs.
func New(config Config) *Live {
	config.Runner.Cluster = share(config.Runner.Cluster)
	return &Live{config: config, runs: map[string]*run{}}
}

// Request describes a run to start.
type Request struct {
	Experiment experiments.Experiment
	// Host is the host whose calls the run disturbs, as far as the file names it.
	Host string
	// Nominal identifies a start by schedule; it is zero for other starts.
	Nominal time.Time
	// Owner is who starts the run.
	Owner string
	// Permit returns an error if the plan may not be carried out.
	Permit func(mesh.Plan) error
	// Ended is called when the run has ended. The error is why it could not be
	// recorded, in which case it did not start.
	Ended func(err error)
}

// Start starts a run and returns its id. When ctx ends, this replica does not
// lead any more: the run rolls back.
func (l *Live) Start(ctx context.Context, request Request) string {
	config := l.config.Runner
	config.Owner = fmt.Sprintf("%s (squall serve, %s)", request.Owner, l.config.Identity)
	config.Permit = request.Permit
	started := newRun(ctx, request, config.NewRun(request.Experiment, time.Now()))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs[started.id] = started
	l.publish()
	l.tasks.Go(func() { //nolint:contextcheck // Kubernetes Events are written after ctx has ended, too
		defer started.cancel(nil)
		l.carryOut(config, started)
	})
	return started.id
}

// carryOut carries out a run, and reports how it has ended.
func (l *Live) carryOut(config runner.Config, one *run) {
	log := l.config.Log.With("run", one.id)
	result, err := l.record(config, one)
	if err != nil {
		log.Error("the run did not start: cannot record it", "error", err)
		result = event.Result{Status: event.StatusRefused, Verdict: steadystate.Inconclusive, Reason: err.Error(), Finished: time.Now()}
	}
	for _, ref := range result.Left {
		log.Error("LEFT BEHIND", "object", ref.String(), "why", ref.Explanation(), "remove", ref.Removal())
	}
	l.config.Metrics.Finished(one.name(), result, time.Since(one.began))
	log.Info("finished", "experiment", one.name(), "status", string(result.Status), "verdict", result.Verdict.String(), "reason", result.Reason)
	l.end(one, result.Left, err)
	if err == nil {
		l.config.Records.Finish(one.id)
	}
	l.notifyEnd(one, result)
}

// record carries out a run with a journal. After an error there is no journal,
// and the run did not start.
func (l *Live) record(config runner.Config, one *run) (event.Result, error) {
	r, err := runner.New(config)
	if err != nil {
		return event.Result{}, err
	}
	writer, err := l.config.Records.Create(one.id)
	if err != nil {
		return event.Result{}, err
	}
	result := r.Run(one.ctx, one.run, one.request.Experiment, l.recorder(one, writer))
	if err := writer.Close(); err != nil {
		l.config.Log.Error("cannot close the journal", "run", one.id, "error", err)
	}
	return result, nil
}

// end removes a run from the live ones.
func (l *Live) end(one *run, left []objects.Left, err error) {
	l.mu.Lock()
	delete(l.runs, one.id)
	if one.deposed() {
		l.left = append(l.left, left...)
	}
	l.mu.Unlock()
	if !one.request.Nominal.IsZero() && !one.storedStart() && !one.deposed() {
		// It came to nothing, and must not be made again. After the end of the
		// leadership it must: the next leader makes it.
		l.config.Starts.Handled(one.name(), one.request.Nominal)
	}
	one.request.Ended(err)
	l.Publish()
}

// Publish sets the metrics of live runs. A fault may become active at any time, so
// it must be called repeatedly.
func (l *Live) Publish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.publish()
}

func (l *Live) publish() {
	faults := 0
	for _, one := range l.runs {
		if one.faultActive(time.Now()) {
			faults++
		}
	}
	l.config.Metrics.Live(len(l.runs), faults)
}

// ErrNotLive is why a run cannot be stopped.
var ErrNotLive = errors.New("no such run is live")

// StopTimeout bounds Stop.
const StopTimeout = 25 * time.Second

// Stop ends a run on behalf of owner: one of this process, or one that only the
// cluster knows. It goes on when ctx ends, so that no run is left half removed
// because a client has disconnected.
func (l *Live) Stop(ctx context.Context, id, owner string) error {
	l.mu.Lock()
	one := l.runs[id]
	l.mu.Unlock()
	if one != nil {
		l.config.Log.Info("stopping a run", "run", id, "by", owner)
		one.cancel(stoppedError(owner))
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopTimeout)
	defer cancel()
	active, err := l.config.Cluster.ActiveRuns(ctx)
	if err != nil {
		return err
	}
	active = slices.DeleteFunc(active, func(run objects.ActiveRun) bool { return run.ID != id })
	if len(active) == 0 {
		return ErrNotLive
	}
	l.config.Log.Info("removing a run of another process", "run", id, "by", owner)
	return l.config.Cluster.Remove(ctx, active, owner)
}

// stoppedError is the cause of the end of a run that a user has stopped.
type stoppedError string

func (e stoppedError) Error() string { return "stopped by " + string(e) }

// errReplaced is the cause of the end of a run that Replace has ended.
var errReplaced = errors.New("the experiment's next start replaces it")

// Replace ends the live runs of an experiment, because its next start is due.
func (l *Live) Replace(experiment string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.runs {
		if one.name() == experiment {
			one.cancel(errReplaced)
		}
	}
}

// Wait waits until all runs have ended and their Kubernetes Events are written.
func (l *Live) Wait() { l.tasks.Wait() }

// Left returns the objects that runs could not remove after the leadership had
// ended: this process does not sweep them.
func (l *Live) Left() []objects.Left {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.left)
}

// Statuses returns the live runs, sorted by id.
func (l *Live) Statuses(now time.Time) []Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	statuses := make([]Status, 0, len(l.runs))
	for _, id := range slices.Sorted(maps.Keys(l.runs)) {
		statuses = append(statuses, l.runs[id].status(now))
	}
	return statuses
}
