// Package serve runs experiments by themselves: by their schedules, one at a time
// for a host, within the limits that the owner of the platform sets. One of
// several replicas does so; all of them show how things stand.
package serve

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/schedule"
)

// Config is what a server works with.
type Config struct {
	Folder *Folder
	Limits Limits
	// Runner is what each run is carried out with. Its Owner and Permit are the
	// server's.
	Runner runner.Config
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
	Remove func(ctx context.Context, runs []mesh.ActiveRun, owner string) error
	Tell   func(ctx context.Context, about mesh.Ref, warning bool, reason, message string) error
	// Notify must not block: a run calls it.
	Notify  func(notify.Event)
	Metrics Metrics
	Log     *slog.Logger
}

// Metrics is told what happens; package metrics tells Prometheus.
type Metrics interface {
	Started(experiment string, lag time.Duration)
	Finished(experiment string, result event.Result, took time.Duration)
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
	// unreadable says why the folder cannot be read; empty when it can.
	unreadable string
	loaded     bool
	live       map[string]*liveRun // by run
	leads      context.Context     //nolint:containedctx // that of the runs; nil while another replica leads
	leader     string
	paused     string
	// unsaved are starts that were dealt with, and are not in the store yet;
	// noting are those that are made as soon as they are.
	unsaved, noting map[string]time.Time
	saving          chan struct{}              // holds one while the state is written
	past            map[string]reports.Summary // by run
	records         *records.Index             // only Watch uses it
	// left are the objects of runs that could not be removed after this process
	// had ceased to lead: it sweeps no more.
	left []mesh.Ref
	// fresh are the runs that have ended since the folder of the records was
	// read last.
	fresh map[string]bool

	// stating is full while the state is read or changed and then followed, so
	// that what was read before somebody paused does not undo it.
	stating chan struct{}
	runs    sync.WaitGroup
	awake   chan struct{}
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
	config.Runner.Cluster = newSharing(config.Runner.Cluster)
	s := &Server{
		Config: config, entries: map[string]*entry{}, live: map[string]*liveRun{}, unsaved: map[string]time.Time{}, noting: map[string]time.Time{},
		past: map[string]reports.Summary{}, records: records.NewIndex(config.Out), fresh: map[string]bool{}, awake: make(chan struct{}, 1), saving: make(chan struct{}, 1), stating: make(chan struct{}, 1),
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

// Watch reads the folder of experiments, that of the records and whether somebody
// has paused again and again until ctx ends.
func (s *Server) Watch(ctx context.Context) {
	var background sync.WaitGroup
	defer background.Wait()
	background.Go(func() { s.refreshLoop(ctx) })
	s.scan(ctx)
	for last := time.Now(); sleep.For(ctx, reloadEvery); {
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
	all := s.Folder.Experiments()
	compiled := make(map[string]*entry, len(all)) // before the lock, which a run may wait for
	for name, loaded := range all {
		compiled[name] = s.compile(loaded)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.entries {
		if _, stays := all[name]; !stays {
			delete(s.entries, name)
			s.Metrics.Forget(name)
			s.Log.Info("experiment is gone", "experiment", name)
		}
	}
	for name, one := range compiled {
		s.enter(name, one)
	}
	s.loaded, s.broken, s.unreadable = true, s.Folder.Broken(), s.Folder.Problem()
	for _, b := range s.broken {
		s.Log.Error("experiment file cannot be used", "file", b.File, "kept", b.Kept, "problem", b.Problem)
	}
	s.Metrics.Reloaded(time.Now(), len(all), len(s.broken))
	s.Log.Info("experiments loaded", "experiments", len(all), "broken", len(s.broken))
	s.wake()
}

// compile makes the entry of an experiment.
func (s *Server) compile(loaded Loaded) *entry {
	one := &entry{experiment: loaded.Experiment, file: loaded.File, forbidden: s.Limits.forbids(loaded.Spec)}
	if loaded.Spec.Schedule == nil {
		return one
	}
	compiled, err := schedule.New(loaded.Metadata.Name, *loaded.Spec.Schedule)
	if err != nil {
		one.forbidden = obstacle{metrics.SkippedError, err.Error()} // the loader has checked it
	}
	one.schedule = &compiled
	return one
}

// enter takes in one experiment. A schedule that is new or has changed begins
// now.
func (s *Server) enter(name string, one *entry) {
	known := s.entries[name]
	s.entries[name] = one
	if known != nil {
		one.last = known.last
		if reflect.DeepEqual(known.experiment, one.experiment) {
			one.waiting = known.waiting
		}
	}
	if s.leads != nil && (known == nil || !reflect.DeepEqual(known.experiment.Spec.Schedule, one.experiment.Spec.Schedule)) {
		s.begin(name, one, time.Now())
	}
	s.publishNext(name, one)
}

// begin lets an experiment's schedule begin now: what was due before it was known
// was never promised.
func (s *Server) begin(name string, one *entry, now time.Time) {
	if now.After(one.last) {
		one.last = now
		s.dealt(name, now)
	}
}

// dealt notes that a start was dealt with, for save.
func (s *Server) dealt(name string, nominal time.Time) {
	if nominal.After(s.unsaved[name]) {
		s.unsaved[name] = nominal
	}
}

// publishNext tells when an experiment starts next. Only who leads knows.
func (s *Server) publishNext(name string, one *entry) {
	next, ok := one.next()
	s.Metrics.NextStart(name, next.At, ok && s.leads != nil)
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

// errDeposed is why a process that has not heard that it does not lead any more
// can note nothing.
var errDeposed = errors.New("another process has taken over")

// Lead runs what is due until ctx ends; then it ends the live runs, which roll
// back, and returns when all have.
func (s *Server) Lead(ctx context.Context) {
	state, ok := s.claim(ctx)
	if !ok {
		return
	}
	s.takeOver(ctx, state)
	s.Log.Info("leading", "identity", s.Identity)
	var background sync.WaitGroup
	background.Go(func() { s.sweepLoop(ctx) })
	for ctx.Err() == nil {
		nap := s.tick(time.Now()) //nolint:contextcheck // runs have the leader's context
		_ = s.save(ctx)           // again at the next turn
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
	_ = s.save(context.WithoutCancel(ctx)) // the log has it
	s.Log.Info("not leading any more", "identity", s.Identity)
}

// claim takes the state over, patiently: without it a start could come twice.
func (s *Server) claim(ctx context.Context) (State, bool) {
	for {
		state, err := s.change(ctx, func(state *State) { state.Leader = s.Identity })
		if err == nil {
			return state, true
		}
		s.Log.Error("the state of the schedules cannot be taken over; trying again", "error", err)
		if !sleep.For(ctx, longestNap) {
			return State{}, false
		}
	}
}

func (s *Server) takeOver(ctx context.Context, state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = ctx
	now := time.Now()
	for name, one := range s.entries {
		one.last = state.Starts[name]
		if own := s.unsaved[name]; own.After(one.last) {
			one.last = own
		}
		if isAhead(one.last, now) {
			s.Log.Warn("the last start is noted in the future, so a clock was wrong; the schedule begins now", "experiment", name, "noted", one.last.UTC())
			one.last = time.Time{}
			delete(s.unsaved, name)
		}
		if one.last.IsZero() {
			s.begin(name, one, now)
		}
		s.publishNext(name, one)
	}
	s.Metrics.Leading(true)
}

func (s *Server) standDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = nil
	for name, one := range s.entries {
		s.publishNext(name, one)
	}
	s.Metrics.Leading(false)
}

// Left gives the objects that the last runs could not remove, when Lead has
// returned.
func (s *Server) Left() []mesh.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.left)
}

// save writes what was dealt with to the store; what cannot be written stays for
// the next time.
func (s *Server) save(ctx context.Context) error {
	// One at a time: replicas keep the state in one object, and who waits here
	// finds his start noted with the others'.
	select {
	case s.saving <- struct{}{}:
		defer func() { <-s.saving }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.mu.Lock()
	starts := maps.Clone(s.unsaved)
	for name, nominal := range s.noting {
		if nominal.After(starts[name]) {
			starts[name] = nominal
		}
	}
	s.mu.Unlock()
	if len(starts) == 0 {
		return nil
	}
	if err := s.deal(ctx, starts); err != nil {
		s.Log.Error("what was started cannot be noted", "error", err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, nominal := range starts {
		for _, list := range []map[string]time.Time{s.unsaved, s.noting} {
			if !list[name].After(nominal) {
				delete(list, name)
			}
		}
	}
	return nil
}

// deal notes in the store that starts were dealt with.
func (s *Server) deal(ctx context.Context, starts map[string]time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	known := s.known()
	deposed := false
	_, err := s.Store.Change(ctx, func(state *State) {
		if deposed = state.Leader != s.Identity; !deposed {
			state.note(starts, known, time.Now())
		}
	})
	if err == nil && deposed {
		err = errDeposed
	}
	return err
}

// forgetAfter is how long the store remembers an experiment that is gone.
const forgetAfter = 7 * 24 * time.Hour

// clockSkew is how far the clocks of replicas may differ. A start that is noted
// further in the future than that was noted by a wrong clock; nearer, it must not
// be made again.
const clockSkew = 10 * time.Minute

func isAhead(noted, now time.Time) bool { return noted.Sub(now) > clockSkew }

// note notes that starts were dealt with, and forgets experiments that nobody
// knows any more: a Lease holds so much only.
func (s *State) note(starts map[string]time.Time, known map[string]bool, now time.Time) {
	if s.Starts == nil {
		s.Starts = map[string]time.Time{}
	}
	for name, nominal := range starts {
		if nominal.After(s.Starts[name]) || isAhead(s.Starts[name], now) {
			s.Starts[name] = nominal
		}
	}
	maps.DeleteFunc(s.Starts, func(name string, last time.Time) bool { return !known[name] && now.Sub(last).Abs() > forgetAfter })
}

// known gives the names of the experiments.
func (s *Server) known() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := make(map[string]bool, len(s.entries))
	for name := range s.entries {
		known[name] = true
	}
	return known
}

// refreshLoop learns what other replicas have been told. One that stands by does
// so too: its page and its metrics must not say what was.
func (s *Server) refreshLoop(ctx context.Context) {
	for sleep.For(ctx, refreshEvery) {
		_, _ = s.follow(ctx, s.Store.Load) // it is asked again
	}
}

// change changes the state.
func (s *Server) change(ctx context.Context, change func(*State)) (State, error) {
	return s.follow(ctx, func(ctx context.Context) (State, error) { return s.Store.Change(ctx, change) })
}

// follow gets the state, and follows whether somebody has paused.
func (s *Server) follow(ctx context.Context, get func(context.Context) (State, error)) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	select {
	case s.stating <- struct{}{}:
	case <-ctx.Done():
		return State{}, ctx.Err()
	}
	defer func() { <-s.stating }()
	state, err := get(ctx)
	if err == nil {
		s.setPaused(state.Paused)
	}
	return state, err
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
