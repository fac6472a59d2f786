// Package serve runs experiments by themselves: by their schedules, one at a time
// for a host, within the limits that the owner of the platform sets. One of
// several replicas does so; all of them show how things stand.
package serve

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/metrics"
	"github.com/squall-chaos/squall/internal/notify"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/schedule"
)

// Config is what a server works with.
type Config struct {
	Folder *Folder
	Limits Limits
	// Runner carries out runs; its Permit is the server's own.
	Runner runner.Runner
	Store  Store
	// Out is the folder of the records, of which KeepRuns and those of KeepFor
	// are kept; 0 keeps all.
	Out      string
	KeepRuns int
	KeepFor  time.Duration
	// Identity names this process among its replicas, and ExternalURL is where
	// people reach them; empty when that is not known.
	Identity, ExternalURL string
	// Look gives the runs of which anything is in the cluster.
	Look func(ctx context.Context) ([]mesh.ActiveRun, error)
	// Remove deletes what runs have left in the cluster, on somebody's behalf.
	Remove  func(ctx context.Context, runs []mesh.ActiveRun, owner string) error
	Tell    func(ctx context.Context, about mesh.Ref, warning bool, reason, message string) error
	Notify  func(notify.Event)
	Metrics Metrics
	Log     *slog.Logger
}

// Metrics is told what happens; package metrics tells Prometheus.
type Metrics interface {
	Started(experiment string, lag time.Duration)
	Finished(experiment string, result runner.Result, took time.Duration)
	Skipped(experiment, reason string)
	NextStart(experiment string, at time.Time, ok bool)
	Forget(experiment string)
	Live(runs, faults int)
	Swept(objects int, err error)
	Reloaded(at time.Time, experiments, brokenFiles int)
	Leading(leads bool)
	Paused(paused bool)
}

// Server is one replica.
type Server struct {
	Config

	mu      sync.Mutex
	entries map[string]*entry
	broken  []Broken
	loaded  bool
	live    map[string]*liveRun // by run
	leads   context.Context     //nolint:containedctx // that of the runs; nil while another replica leads
	leader  string
	paused  string
	// unsaved are starts that were dealt with, and are not in the store yet.
	unsaved map[string]time.Time
	past    map[string]reports.Summary // by run

	runs  sync.WaitGroup
	awake chan struct{}
}

// entry is one experiment.
type entry struct {
	experiment experiments.Experiment
	file       string
	schedule   *schedule.Schedule // nil when it has none
	// forbidden says why it may not run here.
	forbidden obstacle
	// last is the nominal time of the last start that was dealt with.
	last time.Time
	// waiting says what a start that is due waits for.
	waiting obstacle
}

// New makes a server that has read its folder, and does nothing yet.
func New(config Config) *Server {
	s := &Server{
		Config: config, entries: map[string]*entry{}, live: map[string]*liveRun{}, unsaved: map[string]time.Time{},
		past: map[string]reports.Summary{}, awake: make(chan struct{}, 1),
	}
	s.reload()
	return s
}

// The server's clocks.
const (
	reloadEvery  = 2 * time.Second
	refreshEvery = 5 * time.Second
	sweepEvery   = 30 * time.Second
	// longestNap is how long the schedule loop sleeps at most: what is due may
	// have to wait for something that ends.
	longestNap = time.Second
	// storeTimeout bounds one call to the store.
	storeTimeout = 5 * time.Second
)

// Watch reads the folder of experiments and that of the records again and again
// until ctx ends.
func (s *Server) Watch(ctx context.Context) {
	s.scan(ctx)
	for last := time.Now(); pause(ctx, reloadEvery); {
		s.reload()
		if time.Since(last) >= sweepEvery {
			last = time.Now()
			s.scan(ctx) // another replica may share the folder
		}
	}
}

// reload takes in what has changed in the folder. Live runs are not disturbed.
func (s *Server) reload() {
	if !s.Folder.Read() && s.loaded {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.Folder.Experiments()
	for name := range s.entries {
		if _, stays := all[name]; !stays {
			delete(s.entries, name)
			s.Metrics.Forget(name)
			s.Log.Info("experiment is gone", "experiment", name)
		}
	}
	for name, e := range all {
		s.enter(name, e)
	}
	s.loaded, s.broken = true, s.Folder.Broken()
	for _, b := range s.broken {
		s.Log.Error("experiment file cannot be used", "file", b.File, "kept", b.Kept, "problem", b.Problem)
	}
	s.Metrics.Reloaded(time.Now(), len(all), len(s.broken))
	s.Log.Info("experiments loaded", "experiments", len(all), "broken", len(s.broken))
	s.wake()
}

// enter takes in one experiment.
func (s *Server) enter(name string, e experiments.Experiment) {
	one, known := s.entries[name]
	if !known {
		one = &entry{}
		s.entries[name] = one
		if s.leads != nil {
			s.begin(name, one, time.Now())
		}
	}
	one.experiment, one.file, one.forbidden, one.waiting = e, s.Folder.FileOf(name), s.Limits.forbids(e.Spec), obstacle{}
	one.schedule = nil
	if e.Spec.Schedule != nil {
		if compiled, err := schedule.New(name, *e.Spec.Schedule); err == nil {
			one.schedule = &compiled
		} else {
			one.forbidden = obstacle{metrics.SkippedError, err.Error()} // the loader has checked it
		}
	}
	s.publishNext(name, one)
}

// begin lets an experiment's schedule begin now: what was due before it was known
// was never promised.
func (s *Server) begin(name string, one *entry, now time.Time) {
	one.last = now
	s.unsaved[name] = now
}

func (s *Server) publishNext(name string, one *entry) {
	next, ok := one.next()
	s.Metrics.NextStart(name, next.At, ok)
}

// next gives the next start by schedule.
func (e *entry) next() (schedule.Start, bool) {
	if e.schedule == nil || e.forbidden != (obstacle{}) {
		return schedule.Start{}, false
	}
	return e.schedule.Next(e.last)
}

// wake lets the schedule loop look now.
func (s *Server) wake() {
	select {
	case s.awake <- struct{}{}:
	default:
	}
}

// Observed is told who leads; empty for nobody.
func (s *Server) Observed(leader string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leader = leader
}

// Lead runs what is due until ctx ends; then it ends the live runs, which roll
// back, and returns when all have.
func (s *Server) Lead(ctx context.Context) {
	state, ok := s.load(ctx)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.takeOver(ctx, state)
	s.Log.Info("leading", "identity", s.Identity)
	var background sync.WaitGroup
	background.Go(func() { s.sweepLoop(ctx) })
	background.Go(func() { s.refreshLoop(ctx) })
	for ctx.Err() == nil {
		nap := s.tick(time.Now()) //nolint:contextcheck // runs have the leader's context
		s.save(ctx)
		timer := time.NewTimer(nap)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.awake:
		}
		timer.Stop()
	}
	s.standDown()
	s.runs.Wait()
	background.Wait()
	s.save(context.WithoutCancel(ctx))
	s.Log.Info("not leading any more", "identity", s.Identity)
}

// load reads the state, patiently: without it a start could come twice.
func (s *Server) load(ctx context.Context) (State, bool) {
	for {
		attempt, cancel := context.WithTimeout(ctx, storeTimeout)
		state, err := s.Store.Load(attempt)
		cancel()
		if err == nil {
			return state, true
		}
		s.Log.Error("the state of the schedules cannot be read; trying again", "error", err)
		if !pause(ctx, longestNap) {
			return State{}, false
		}
	}
}

func (s *Server) takeOver(ctx context.Context, state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads, s.paused = ctx, state.Paused
	now := time.Now()
	for name, one := range s.entries {
		if last, known := state.Starts[name]; known {
			one.last = last
		} else {
			s.begin(name, one, now)
		}
		s.publishNext(name, one)
	}
	s.Metrics.Leading(true)
	s.Metrics.Paused(s.paused != "")
}

func (s *Server) standDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = nil
	s.Metrics.Leading(false)
}

// save writes what was dealt with to the store; what cannot be written stays for
// the next time.
func (s *Server) save(ctx context.Context) {
	s.mu.Lock()
	unsaved := maps.Clone(s.unsaved)
	s.mu.Unlock()
	if len(unsaved) == 0 {
		return
	}
	if err := s.deal(ctx, unsaved); err != nil {
		s.Log.Error("what was started cannot be noted; trying again", "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, nominal := range unsaved {
		if s.unsaved[name].Equal(nominal) {
			delete(s.unsaved, name)
		}
	}
}

// deal notes in the store that starts were dealt with.
func (s *Server) deal(ctx context.Context, starts map[string]time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := s.Store.Change(ctx, func(state *State) {
		if state.Starts == nil {
			state.Starts = map[string]time.Time{}
		}
		for name, nominal := range starts {
			if nominal.After(state.Starts[name]) {
				state.Starts[name] = nominal
			}
		}
	})
	return err
}

// refreshLoop learns what other replicas have been told.
func (s *Server) refreshLoop(ctx context.Context) {
	for pause(ctx, refreshEvery) {
		attempt, cancel := context.WithTimeout(ctx, storeTimeout)
		state, err := s.Store.Load(attempt)
		cancel()
		if err == nil {
			s.setPaused(state.Paused)
		}
	}
}

func (s *Server) setPaused(by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != by {
		s.Log.Info("starts by schedule", "paused by", by)
	}
	s.paused = by
	s.Metrics.Paused(by != "")
}

// names gives the experiments in their order.
func (s *Server) names() []string { return slices.Sorted(maps.Keys(s.entries)) }

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
