// Package heartbeat moves the deadlines of the Jobs that own the objects of a run, so
// that the cluster deletes the objects soon after the run has died. It ends the run when
// the Jobs cannot be relied on any longer, or when a user ends it.
package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
)

// Cluster reads Jobs and moves their deadlines.
type Cluster interface {
	// Armed waits until the cluster counts the deadline of a Job, and returns the Job.
	Armed(ctx context.Context, job objects.Ref) (*unstructured.Unstructured, error)
	// Extend sets the deadline of a Job, counted from the start of the Job, and adds
	// annotations. It returns the Job as it is stored. The error wraps objects.ErrGone
	// if the Job no longer exists.
	Extend(ctx context.Context, job objects.Ref, deadline time.Duration, annotations map[string]string) (*unstructured.Unstructured, error)
	// Get returns an object. The error wraps objects.ErrGone if it no longer exists.
	Get(ctx context.Context, object objects.Ref) (*unstructured.Unstructured, error)
	// Watch calls changed with the state of an object, at once and whenever it
	// changes, until ctx is done; nil means that the object no longer exists. It waits
	// while the cluster does not answer.
	Watch(ctx context.Context, object objects.Ref, changed func(*unstructured.Unstructured))
}

// Hint is the next step when the cluster does not accept a heartbeat Job.
const Hint = "the Job has no pod; a quota must leave room for it, a policy may require --heartbeat-image, and with --heartbeat=off nothing removes the fault if Squall dies"

// armTimeout limits how long a cluster takes until it counts the deadline of a Job.
// A slower cluster could not be relied on to remove the fault.
const armTimeout = 10 * time.Second

// Config is what a Heartbeat needs.
type Config struct {
	Cluster Cluster
	Record  *event.Queue
	// Interval is the time between two heartbeats. Deadline is how long after the
	// last one the cluster deletes the objects.
	Interval, Deadline time.Duration
	// End is called with an *EndError when the run has to end.
	End context.CancelCauseFunc
}

// Fault is the state of the fault of a run.
type Fault int

// The states of a fault.
const (
	// Pending faults do not exist yet.
	Pending Fault = iota
	// Active faults may exist.
	Active
	// Ending faults are deleted by the run. Deadlines are not moved, so that the cluster
	// deletes them too if the run cannot.
	Ending
	// Gone faults exist no longer. The run goes on if its Jobs are lost.
	Gone
)

// Phase is the phase of a run as its Jobs record it.
type Phase struct {
	Name  event.PhaseName
	Fault Fault
	// Rest is how long the run goes on at the latest. While the fault is active no
	// deadline is moved further than that.
	Rest time.Duration
}

// Heartbeat moves the deadlines of the Jobs of a run. It is safe for concurrent use.
type Heartbeat struct {
	config Config
	tasks  sync.WaitGroup
	// arming has the Jobs whose deadline the cluster does not count yet.
	arming sync.WaitGroup
	ctx    context.Context //nolint:containedctx // of the tasks
	stop   context.CancelFunc

	mu    sync.Mutex
	phase Phase
	since time.Time // of phase
	jobs  []*job
}

// job is one Job of the run.
type job struct {
	objects.Ref
	// sent is the Job as it was created.
	sent *unstructured.Unstructured
	// startTime is from when the cluster counts, in its words.
	startTime string
	// started is a time at which the Job had started, by this process' clock.
	started time.Time
	wake    chan struct{}

	// The rest needs the lock of the Heartbeat. answered is when the last heartbeat
	// was sent that the cluster has answered, and deadline is what it has set.
	answered time.Time
	deadline time.Duration
}

// New returns a Heartbeat without Jobs, in a phase. It stops when ctx is done.
func New(ctx context.Context, config Config, phase Phase) *Heartbeat {
	h := &Heartbeat{config: config, phase: phase, since: time.Now()}
	h.ctx, h.stop = context.WithCancel(ctx)
	return h
}

// Start moves the deadline of a Job until Stop, as soon as the cluster counts it. It does
// not wait. If the cluster does not count the deadline within 10 seconds, the run ends.
// sent is the Job as it was created.
func (h *Heartbeat) Start(ref objects.Ref, sent *unstructured.Unstructured, deadline time.Duration) {
	h.arming.Add(1)
	h.tasks.Go(func() {
		j, end := h.arm(ref, sent, deadline)
		if end != nil {
			h.end(end)
			h.arming.Done()
			return
		}
		h.tasks.Go(func() {
			h.config.Cluster.Watch(h.ctx, ref, func(now *unstructured.Unstructured) { h.see(j, now) })
		})
		h.arming.Done()
		h.beat(j)
	})
}

// arm waits until the cluster counts the deadline of a Job, and returns the Job, or why
// the run ends.
func (h *Heartbeat) arm(ref objects.Ref, sent *unstructured.Unstructured, deadline time.Duration) (*job, *EndError) {
	ctx, cancel := context.WithTimeout(h.ctx, armTimeout)
	defer cancel()
	armed, err := h.config.Cluster.Armed(ctx, ref)
	if errors.Is(err, objects.ErrGone) {
		return nil, deletedFromOutside()
	}
	if err != nil {
		return nil, &EndError{Status: event.StatusFailed, Err: hint.With(fmt.Errorf("heartbeat in %s: %w", ref.Namespace, err), Hint)}
	}
	if end := endedBy(armed); end != nil {
		return nil, end
	}
	// The Job started before now, so the runner never expects a later deadline than the
	// cluster's.
	now := time.Now()
	j := &job{Ref: ref, sent: sent, startTime: objects.StartTime(armed), started: now, answered: now, deadline: deadline, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.jobs = append(h.jobs, j)
	return j, nil
}

// Armed waits until the cluster counts the deadlines of all Jobs that were started, or
// until one has ended the run.
func (h *Heartbeat) Armed() { h.arming.Wait() }

// Stop ends the heartbeats. The Jobs stay.
func (h *Heartbeat) Stop() {
	h.stop()
	h.tasks.Wait()
}

// Enter records the next phase on the Jobs. It does not wait.
func (h *Heartbeat) Enter(phase Phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase, h.since = phase, time.Now()
	for _, j := range h.jobs {
		select {
		case j.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// Answered returns when the oldest of the last heartbeats was sent that the cluster has
// answered; zero if there are no Jobs.
func (h *Heartbeat) Answered() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	var oldest time.Time
	for _, j := range h.jobs {
		if oldest.IsZero() || j.answered.Before(oldest) {
			oldest = j.answered
		}
	}
	return oldest
}

// Check returns an error if the cluster may have deleted the objects of the run since
// some time, because a heartbeat is older than the deadline.
func (h *Heartbeat) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, j := range h.jobs {
		if age := time.Since(j.answered); age > h.config.Deadline {
			return fmt.Errorf("the last heartbeat of %s was %s ago, so the cluster may have ended the fault since then", j.Ref, age.Round(time.Second))
		}
	}
	return nil
}

// beat moves the deadline of a Job every interval, and when the phase changes.
//
// The deadline of a Job counts from its start by the cluster's clock. The runner
// measures the same time by its own monotonic clock, from started, when it knew that
// the Job had started. So the dates of the two clocks do not matter.
func (h *Heartbeat) beat(j *job) {
	ticker := time.NewTicker(h.config.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-ticker.C:
		case <-j.wake:
		}
		h.extend(j)
	}
}

// next returns the deadline and the annotations of the next heartbeat of a Job, and
// the phase.
func (h *Heartbeat) next(j *job, now time.Time) (deadline time.Duration, annotations map[string]string, phase Phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	deadline, expires := now.Sub(j.started)+h.config.Deadline, now.Add(h.phase.Rest)
	switch h.phase.Fault {
	case Active:
		expires = h.since.Add(h.phase.Rest)
		deadline = min(deadline, expires.Sub(j.started))
	case Ending:
		deadline = j.deadline
	case Pending, Gone:
	}
	return deadline, map[string]string{
		objects.PhaseAnnotation:   string(h.phase.Name),
		objects.ExpiresAnnotation: expires.UTC().Format(time.RFC3339),
	}, h.phase
}

// extend sends one heartbeat.
func (h *Heartbeat) extend(j *job) {
	now := time.Now()
	deadline, annotations, phase := h.next(j, now)
	attempt, cancel := context.WithTimeout(h.ctx, h.config.Interval)
	stored, err := h.config.Cluster.Extend(attempt, j.Ref, deadline, annotations)
	cancel()
	switch {
	case h.ctx.Err() != nil:
		return
	case err == nil:
		h.mu.Lock()
		j.deadline = deadline
		if phase.Fault != Ending { // which moves nothing
			j.answered = now
		}
		h.mu.Unlock()
		h.end(j.endAfter(stored, objects.Compare(objects.Extended(j.sent, deadline, annotations), stored), phase.Fault))
		return
	}
	h.config.Record.Add(event.HeartbeatFailed{Job: j.Ref, Error: err.Error()})
	if errors.Is(err, objects.ErrGone) {
		h.see(j, nil)
		return
	}
	// If the next heartbeat may come after the deadline, the cluster may remove the
	// fault while the run still counts on it.
	if h.isLate(j) && (phase.Fault == Pending || phase.Fault == Active) {
		h.end(&EndError{Status: event.StatusFailed, Err: fmt.Errorf("heartbeat: %s: %w", j.Ref, err)})
	}
}

// isLate reports whether the next heartbeat of a Job may come after its deadline.
func (h *Heartbeat) isLate(j *job) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(j.answered)+h.config.Interval >= h.config.Deadline
}

// see judges the state of a Job; nil if it no longer exists.
func (h *Heartbeat) see(j *job, now *unstructured.Unstructured) {
	h.mu.Lock()
	fault := h.phase.Fault
	h.mu.Unlock()
	if now != nil {
		h.end(j.endAfter(now, objects.CompareBetweenBeats(j.sent, now), fault))
		return
	}
	// A Job that has expired was not deleted by a user. Then the run goes on if its
	// fault is gone.
	if h.isLate(j) && (fault == Ending || fault == Gone) {
		return
	}
	h.end(h.gone(j))
}

// gone returns why the run ends when a Job is gone.
func (h *Heartbeat) gone(j *job) *EndError {
	h.mu.Lock()
	defer h.mu.Unlock()
	return gone(time.Since(j.answered), h.config.Deadline)
}

// end ends the run with an error that is not nil.
func (h *Heartbeat) end(err *EndError) {
	if err != nil {
		h.config.End(err)
	}
}

// endAfter returns why the run ends with a state of a Job, and nil if it goes on.
// changed is the difference to what was sent.
func (j *job) endAfter(now *unstructured.Unstructured, changed error, fault Fault) *EndError {
	started := objects.StartTime(now)
	switch end := endedBy(now); {
	case end != nil:
		return end
	case fault == Ending || fault == Gone: // the Job guards no fault
		return nil
	case changed != nil:
		return &EndError{Status: event.StatusStopped, Err: fmt.Errorf("the heartbeat was changed: %w", changed)}
	case started != j.startTime:
		return &EndError{Status: event.StatusStopped, Err: fmt.Errorf("the heartbeat was changed: status.startTime of %s is %q instead of %q", j.Ref, started, j.startTime)}
	default:
		return nil
	}
}

// Ended reads the Jobs and returns why the run was ended from outside; nil if it was
// not.
func (h *Heartbeat) Ended(ctx context.Context) *EndError {
	h.mu.Lock()
	jobs := h.jobs
	h.mu.Unlock()
	for _, j := range jobs {
		attempt, cancel := context.WithTimeout(ctx, h.config.Interval)
		object, err := h.config.Cluster.Get(attempt, j.Ref)
		cancel()
		if errors.Is(err, objects.ErrGone) {
			return h.gone(j)
		}
		if err != nil {
			continue
		}
		if end := endedBy(object); end != nil {
			return end
		}
	}
	return nil
}
