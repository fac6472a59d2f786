// Package serve is squall serve: it runs experiments by their schedules, within
// the limits that the owner of the platform has set. One of several replicas
// starts runs; all of them show the state. The package connects its
// subpackages and has the loops that drive them.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/serve/directory"
	"github.com/squall-chaos/squall/internal/app/serve/history"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/internal/app/serve/web"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// Config has the parts of a Server.
type Config struct {
	// Directory is the path of the directory of experiment files.
	Directory string
	// Limits bound what experiments may do.
	Limits scheduler.Limits
	// Runner configures the runs. Its Owner and Permit are set for each run.
	Runner runner.Config
	// Store stores the state that outlives the process, and that replicas share.
	Store leadership.Store
	// History configures the records of runs. Its Log is set to Log.
	History history.Config
	// Identity is the name of this process, unique among all replicas, with
	// @ADDRESS at its end if others reach it there.
	Identity string
	// ExternalURL is the URL of the status page for users; empty when unknown.
	ExternalURL string
	// Hosts are further names by which the page is reached.
	Hosts []string
	// Cluster has the runs of all processes.
	Cluster runs.Cluster
	// Emit writes a Kubernetes Event.
	Emit func(ctx context.Context, event runs.Event) error
	// Notify sends a notification. Runs call it, so it must not block.
	Notify func(notify.Event)
	// Metrics receives counts and states.
	Metrics Metrics
	// Log receives a line for each event of interest.
	Log *slog.Logger
}

// Metrics is for the metrics of all parts of a Server.
type Metrics interface {
	ScheduleMetrics
	ReplicaMetrics
	runs.Metrics
}

// ScheduleMetrics is for the metrics of each experiment's schedule.
type ScheduleMetrics interface {
	// Started counts a start by schedule, by its time since it was due.
	Started(experiment string, lag time.Duration)
	Skipped(experiment string, reason scheduler.Reason)
	// NextStart sets when the next start is due; not ok says that none is.
	NextStart(experiment string, at time.Time, ok bool)
	// Forget removes an experiment that is gone.
	Forget(experiment string)
}

// ReplicaMetrics is for the metrics of the process.
type ReplicaMetrics interface {
	// Reloaded sets the number of experiments and of broken files.
	Reloaded(at time.Time, experiments, brokenFiles int)
	Leading(leads bool)
	Paused(paused bool)
}

// Server is one replica.
type Server struct {
	config     Config
	directory  *directory.Directory
	leadership *leadership.Leadership
	history    *history.History
	runs       *runs.Live
	awake      bell

	// mu may be held when a method of runs or leadership is called, but not when
	// one of them calls back.
	mu        sync.Mutex
	scheduler *scheduler.Scheduler
	term      context.Context //nolint:containedctx // of runs; nil while this replica does not lead
	// loaded is closed when the directory has been read once.
	loaded chan struct{}
	broken []directory.Broken
	// unreadable is why the directory cannot be read, or nil.
	unreadable error
}

// New returns a Server that does nothing until Watch and Lead.
func New(config Config) *Server {
	config.History.Log = config.Log
	s := &Server{
		config: config, directory: directory.New(config.Directory), history: history.New(config.History),
		scheduler: scheduler.New(config.Limits), awake: newBell(), loaded: make(chan struct{}),
	}
	s.leadership = leadership.New(leadership.Config{Store: config.Store, Identity: config.Identity, Paused: s.setPaused, Log: config.Log})
	s.runs = runs.New(runs.Config{
		Runner: config.Runner, Starts: s.leadership, Records: s.history, Cluster: config.Cluster, Emit: config.Emit, Notify: config.Notify,
		Metrics: config.Metrics, Identity: config.Identity, ExternalURL: config.ExternalURL, Log: config.Log,
	})
	return s
}

// The intervals of the loops.
const (
	reloadEvery  = 2 * time.Second
	refreshEvery = 5 * time.Second
	scanEvery    = 30 * time.Second
	sweepEvery   = 30 * time.Second
	// maxPause is the longest pause between two turns of the loop of Lead: a start
	// that is due may wait for a run to end.
	maxPause = time.Second
)

// bell ends the pause of the loop of Lead.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default: // it has been rung already
	}
}

// every calls task at once and then every interval until ctx ends.
func every(ctx context.Context, interval time.Duration, task func()) {
	for more := true; more; more = sleep.For(ctx, interval) {
		task()
	}
}

// Watch reads the experiments, the records and the shared state repeatedly until
// ctx ends. Every replica does.
func (s *Server) Watch(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { every(ctx, scanEvery, func() { s.history.Scan(ctx) }) })
	loops.Go(func() {
		for sleep.For(ctx, refreshEvery) {
			_ = s.leadership.Refresh(ctx) // tried again
			s.follow(ctx)
		}
	})
	loops.Go(func() { every(ctx, refreshEvery, func() { s.runs.Look(ctx) }) })
	loops.Go(func() { every(ctx, reloadEvery, s.reload) })
	loops.Wait()
}

// follow pauses the schedules when a user has stopped all runs of the cluster.
func (s *Server) follow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leadership.Timeout)
	defer cancel()
	hold, err := s.config.Runner.Cluster.Hold(ctx, nil)
	if err == nil && hold != nil {
		err = s.leadership.Held(ctx, hold.By+" until "+hold.Until.UTC().Format(time.RFC3339), hold.By+", with squall rollback --all")
	}
	if err != nil && ctx.Err() == nil {
		s.config.Log.Warn("cannot follow whether runs are held", "error", err)
	}
}

// reload reads the directory. Live runs go on as they are.
func (s *Server) reload() {
	if !s.directory.Read() && s.hasLoaded() {
		return
	}
	all := s.directory.Experiments()
	entries := make(map[string]*scheduler.Entry, len(all)) // before the lock, for which runs wait
	for name, loaded := range all {
		entries[name] = scheduler.NewEntry(loaded.Experiment, loaded.File, s.config.Limits)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	gone, begun := s.scheduler.Set(entries, now)
	for _, name := range gone {
		s.config.Metrics.Forget(name)
		s.config.Log.Info("experiment is gone", "experiment", name)
	}
	for _, one := range begun {
		s.leadership.Handled(one.Experiment, now)
	}
	s.leadership.SetExperiments(s.scheduler.Names())
	s.publishNext(s.scheduler.Names()...)
	s.broken, s.unreadable = s.directory.Broken(), s.directory.Err()
	if !s.hasLoaded() {
		close(s.loaded)
	}
	for _, b := range s.broken {
		s.config.Log.Error("experiment file cannot be used", "file", b.File, "kept", b.Kept, "problem", b.Problem)
	}
	s.config.Metrics.Reloaded(now, len(all), len(s.broken))
	s.config.Log.Info("experiments loaded", "experiments", len(all), "broken", len(s.broken))
	s.awake.ring()
}

// hasLoaded reports whether the directory has been read.
func (s *Server) hasLoaded() bool {
	select {
	case <-s.loaded:
		return true
	default:
		return false
	}
}

// publishNext sets the metric of the next start of experiments.
func (s *Server) publishNext(names ...string) {
	for _, name := range names {
		next, ok := s.scheduler.Next(name)
		s.config.Metrics.NextStart(name, next, ok)
	}
}

// setPaused follows whether the schedules are paused.
func (s *Server) setPaused(by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scheduler.Pause(by) {
		s.config.Log.Info("starts by schedule", "paused by", by)
	}
	s.config.Metrics.Paused(by != "")
}

// Observe sets the identity of the process that leads; empty when none does.
func (s *Server) Observe(leader string) { s.leadership.Observe(leader) }

// Status implements web.Replica.
func (s *Server) Status() web.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	status := web.Status{
		Time: now.UTC(), Identity: s.config.Identity, Leader: s.leadership.Leader(), Leading: s.scheduler.Leading(), Paused: s.scheduler.PausedBy(),
		Live: s.runs.Statuses(now), Others: s.runs.Others(), Experiments: s.scheduler.Statuses(now), Broken: s.broken,
	}
	if status.Leader == status.Identity && !status.Leading {
		status.Leader = "" // it starts nothing yet
	}
	if err := s.unready(); err != nil {
		status.Problem = err.Error()
	}
	return status
}

// Ready implements web.Replica.
func (s *Server) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unready()
}

// unready returns why this replica cannot do its part, or nil. It needs s.mu.
func (s *Server) unready() error {
	leader, trouble := s.leadership.Leader(), s.leadership.Trouble()
	switch {
	case !s.hasLoaded():
		return errors.New("the experiments have not been read yet")
	case s.unreadable != nil:
		return fmt.Errorf("the experiments cannot be read: %w", s.unreadable)
	case trouble != nil:
		return fmt.Errorf("%w: %w", leadership.ErrTakingOver, trouble)
	case s.scheduler.Leading():
		return nil
	case leader == "":
		return errors.New("no replica leads, as far as this one knows")
	case leader == s.config.Identity:
		return leadership.ErrTakingOver
	default:
		return nil
	}
}

// Leader implements web.Replica.
func (s *Server) Leader() web.Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scheduler.Leading() {
		return web.Peer{}
	}
	identity, address := s.leadership.Elsewhere()
	return web.Peer{Identity: identity, Address: address}
}

// Left returns the objects that the last runs could not remove. It is for use
// after Lead has returned.
func (s *Server) Left() []objects.Left { return s.runs.Left() }

// HTTPServer returns the server of the status page and the API, without a
// listener. Metrics serves /metrics; the other arguments are as in web.Config.
func (s *Server) HTTPServer(metrics http.Handler, tokenFile, version string) *http.Server {
	return web.New(web.Config{
		Replica: s, Records: s.history, Controls: s, Metrics: metrics, Identity: s.config.Identity, TokenFile: tokenFile, Version: version,
		Hosts: web.Hosts(s.config.ExternalURL, s.config.Hosts),
	}).HTTPServer()
}
