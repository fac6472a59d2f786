// Package runner carries out one experiment: plan, baseline, inject, observe,
// roll back, recover, judge. It always rolls back, and it records what it is
// about to do before it does it.
//
// It reaches the cluster and the metrics only through the interfaces that it
// declares here.
package runner

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/runner/effect"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Mesh is the cluster as a run needs it.
type Mesh interface {
	// Name says which cluster it is.
	Name() string
	// Snapshot reads the mesh configuration.
	Snapshot(ctx context.Context) (mesh.Snapshot, error)
	// Permitted asks whether a run may do what it does in a namespace where it
	// makes objects of these kinds. An error of type *DeniedError names what it
	// may not.
	Permitted(ctx context.Context, namespace string, kinds []string) error
	// Check asks the cluster whether it would create an object, without
	// creating it.
	Check(ctx context.Context, object *unstructured.Unstructured) error
	// Create creates an object. An error of type *TakenError says that the
	// name is taken; after any other error the object may exist all the same.
	Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error)
	// Armed waits until the cluster counts a heartbeat's deadline.
	Armed(ctx context.Context, job mesh.Ref) error
	// Get reads an object. The error wraps ErrGone when it does not exist any
	// more.
	Get(ctx context.Context, object mesh.Ref) (*unstructured.Unstructured, error)
	// Watch tells the state of an object, now and whenever it changes, until
	// ctx ends; nil says that the object does not exist any more. It waits out
	// errors of the cluster.
	Watch(ctx context.Context, object mesh.Ref, changed func(*unstructured.Unstructured))
	// Update gives an object of ours the spec of another, if it is still at the
	// resource version. The error wraps ErrChanged when it is not, and ErrGone
	// when it does not exist any more.
	Update(ctx context.Context, object *unstructured.Unstructured, ref mesh.Ref, resourceVersion string) (*unstructured.Unstructured, error)
	// Extend sets a heartbeat's deadline, counted from the Job's start. The
	// error wraps ErrGone when the Job does not exist any more.
	Extend(ctx context.Context, job mesh.Ref, deadline time.Duration) error
	// Delete deletes an object of the run; it is nil when the object is gone
	// already. Without a UID it deletes the object of that name only if it
	// belongs to the run.
	Delete(ctx context.Context, object mesh.Ref, run string) error
}

// ErrGone says that an object does not exist any more.
var ErrGone = errors.New("does not exist any more")

// TakenError says that an object of the same name exists. Run is the run that
// it belongs to, and is empty when it cannot be told.
type TakenError struct {
	Object mesh.Ref
	Run    string
}

// Hint names the next step.
func (e *TakenError) Hint() string {
	if e.Run == "" {
		return fmt.Sprintf("look at it: kubectl -n %s get %s %s -o yaml", e.Object.Namespace, strings.ToLower(e.Object.Kind), e.Object.Name)
	}
	return mesh.LiveRunHint(e.Run)
}

func (e *TakenError) Error() string {
	if e.Run == "" {
		return fmt.Sprintf("%s exists already, and no run of Squall can be seen that it belongs to", e.Object)
	}
	return fmt.Sprintf("run %s already disturbs the same calls, with %s", e.Run, e.Object)
}

// Timing is how a run guards itself.
type Timing struct {
	// Beat is how often a heartbeat is sent, and Deadline how long the fault
	// outlives the last one.
	Beat, Deadline time.Duration
	// Grace is how long after the experiment's end the heartbeats may go on.
	Grace time.Duration
	// Rollback bounds the rollback.
	Rollback time.Duration
	// Settle is how long the proxies may take to hear that requests go nowhere
	// no more, before that which took them is removed.
	Settle time.Duration
}

// DefaultTiming is the timing that promises a fault gone 20 s after the
// runner's death.
func DefaultTiming() Timing {
	return Timing{Beat: 5 * time.Second, Deadline: 15 * time.Second, Grace: 30 * time.Second, Rollback: 30 * time.Second, Settle: time.Second}
}

// Runner carries out experiments.
type Runner struct {
	Mesh       Mesh
	Querier    steadystate.Querier
	Alerts     steadystate.AlertSource // nil when nobody knows alerting rules
	Prometheus string                  // its address, for the record
	Version    string
	Owner      string
	Timing     Timing
	// Permit says why a plan may not be carried out, whatever the cluster says;
	// empty when it may. Nil permits all.
	Permit func(mesh.Plan) string
	// Options are the user's wishes for plans.
	Options mesh.Options
	// WithoutHeartbeat lets runs go without the Jobs that remove the fault when
	// the runner dies. It is recorded.
	WithoutHeartbeat bool
	// HeartbeatImage is the image that heartbeat Jobs name, though no pod is
	// ever made; empty means mesh.HeartbeatImage.
	HeartbeatImage string
}

// heartbeatJob gives the Job that a run's objects in a namespace belong to.
func (s *session) heartbeatJob(namespace string) *unstructured.Unstructured {
	return mesh.Heartbeat(namespace, s.run, s.Timing.Deadline, cmp.Or(s.HeartbeatImage, mesh.HeartbeatImage))
}

// NewRun gives an experiment's next run: an id that no other run has, and
// when its fault is gone at the latest.
func (r Runner) NewRun(e experiments.Experiment, now time.Time) mesh.Run {
	var random [3]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	name := e.Metadata.Name
	if len(name) > 32 {
		name = name[:32]
	}
	return mesh.Run{
		ID:         fmt.Sprintf("%s-%s-%s", now.UTC().Format(event.IDTime), name, hex.EncodeToString(random[:])),
		Experiment: e.Metadata.Name,
		Owner:      r.Owner,
		Expires:    now.Add(e.Spec.SteadyState.Before.Duration + e.Spec.Duration.Duration + r.Timing.Grace),
	}
}

// Run carries out one experiment and gives its result, which is also the last
// thing that it records. When ctx ends, it rolls back and returns.
func (r Runner) Run(ctx context.Context, run mesh.Run, e experiments.Experiment, recorder event.Recorder) event.Result {
	s := &session{Runner: r, run: run, experiment: e, record: newRecord(recorder), probes: e.Spec.Measured(), evaluated: map[string]time.Time{}, query: effect.QueryOf(r.Querier)}
	result := s.conclude(s.execute(ctx))
	result.Finished = time.Now().UTC().Truncate(time.Millisecond)
	s.record.add(event.Finished{Result: result})
	if err := s.record.flush(); err != nil && result.Status == event.StatusCompleted {
		result.Status, result.Reason = event.StatusFailed, "the record is incomplete: "+err.Error()
		result.Verdict = max(result.Verdict, steadystate.Inconclusive)
	}
	return result
}

// session is one run in progress.
type session struct {
	Runner
	run        mesh.Run
	experiment experiments.Experiment
	record     *record
	// probes are all that is measured; their relative tolerances become
	// absolute ones once the baseline is known.
	probes []experiments.Probe
	// evaluated is when Prometheus evaluated each of them for last.
	evaluated map[string]time.Time

	// query evaluates what a run asks beside its probes, and clock is Prometheus'.
	query effect.Query
	clock effect.Clock
	// ended is when the rollback had removed the fault.
	ended time.Time

	findings []steadystate.Finding
	effect   *event.Effect
	result   event.Result
}

// ending is why a run ends before its time; nil when it does not.
type ending struct {
	status event.Status
	reason string
	hint   string
}

func (e *ending) Error() string { return e.reason }

// execute is the straight line of a run.
func (s *session) execute(ctx context.Context) *ending {
	s.record.add(event.Started{
		Run: s.run, Experiment: s.experiment, Version: s.Version, Cluster: s.Mesh.Name(), Queries: queries(s.probes), Prometheus: s.Prometheus,
		WithoutHeartbeat: s.WithoutHeartbeat,
	})
	planned, end := s.preflight(ctx)
	if end != nil {
		return end
	}
	if end := s.baseline(ctx); end != nil {
		return end
	}
	meter, end := s.startEffect(ctx, planned)
	if end != nil {
		return end
	}
	if end := s.unchanged(ctx, &planned); end != nil {
		return end
	}
	// A disturbance that ended early is followed by the recovery all the same,
	// unless somebody waits for the end or the cluster does not answer.
	ended := s.disturb(ctx, planned, meter)
	if ended != nil && ended.status != event.StatusStopped {
		return ended
	}
	if end := s.recover(ctx); end != nil {
		return end
	}
	if end := s.proveEffect(ctx, meter); end != nil {
		return end
	}
	return ended
}

// preflight plans, and asks everybody who will be needed. Nothing is changed.
func (s *session) preflight(ctx context.Context) (Planned, *ending) {
	s.record.add(event.Phase{Name: event.PhasePreflight})
	if schedule := s.experiment.Spec.Schedule; schedule != nil {
		if permitted, reason := schedule.Permits(time.Now()); !permitted {
			return Planned{}, &ending{event.StatusRefused, "the schedule permits no start now: " + reason, "wait, or change spec.schedule"}
		}
	}
	planned, err := s.Plan(ctx, s.experiment)
	if err != nil {
		end := s.fail(ctx, event.StatusRefused, err)
		end.hint = "check --kubeconfig, --context and the permissions; nothing was injected"
		return planned, end
	}
	if first, refused := planned.Refusal(); refused && first.Cause == refusal.LiveRun && s.sweep(ctx) {
		if planned, err = s.Plan(ctx, s.experiment); err != nil {
			return planned, s.fail(ctx, event.StatusRefused, err)
		}
	}
	s.record.add(event.Planned{Plan: planned.Plan})
	if end := s.refusalOf(planned.Plan); end != nil {
		return planned, end
	}
	if end := s.check(ctx, planned.Plan); end != nil {
		return planned, end
	}
	if s.clock, err = effect.ReadClock(ctx, s.query); err != nil {
		end := s.fail(ctx, event.StatusRefused, fmt.Errorf("prometheus: %w", err))
		end.hint = "check --prometheus or SQUALL_PROMETHEUS; nothing was injected"
		return planned, end
	}
	if err := s.record.sync(ctx); err != nil {
		if ctx.Err() != nil {
			return planned, interrupted(ctx)
		}
		return planned, &ending{event.StatusRefused, err.Error(), "a run that cannot be recorded does not start; choose another folder with --out"}
	}
	return planned, nil
}

func (s *session) refusalOf(plan mesh.Plan) *ending {
	if refusal, refused := plan.Refusal(); refused {
		return &ending{event.StatusRefused, refusal.Reason, refusal.Hint}
	}
	if s.Permit == nil {
		return nil
	}
	if reason := s.Permit(plan); reason != "" {
		return &ending{event.StatusRefused, reason, "whoever runs Squall here has set this limit"}
	}
	return nil
}

// check asks the cluster whether it would create every object, in each of its
// states.
func (s *session) check(ctx context.Context, plan mesh.Plan) *ending {
	var objects []*unstructured.Unstructured
	if !s.WithoutHeartbeat {
		for _, namespace := range slices.Sorted(maps.Keys(kindsIn(plan.Objects))) {
			objects = append(objects, s.heartbeatJob(namespace))
		}
	}
	for _, object := range plan.Objects {
		objects = append(objects, mesh.Stamp(object, s.run))
	}
	for _, step := range plan.Steps {
		objects = append(objects, mesh.Stamp(step.Object, s.run))
	}
	for _, o := range objects {
		if err := s.Mesh.Check(ctx, o); err != nil {
			end := s.fail(ctx, event.StatusRefused, fmt.Errorf("the cluster would not create %s: %w", mesh.RefTo(o), err))
			if o.GetKind() == "Job" {
				end.hint = heartbeatHint
			}
			return end
		}
	}
	return nil
}

// heartbeatHint says what to do about a Job that the cluster does not let be.
const heartbeatHint = "the Job makes no pod; a quota must leave room for it, a policy may want --heartbeat-image, and --heartbeat=off goes without what removes the fault when Squall dies"

// unchanged refuses a run whose plan has become stale while the baseline was
// watched: its shadow would bring back routes that are not in force any more.
func (s *session) unchanged(ctx context.Context, planned *Planned) *ending {
	snapshot, err := s.Mesh.Snapshot(ctx)
	if err != nil {
		return s.fail(ctx, event.StatusRefused, fmt.Errorf("the mesh configuration cannot be read again: %w", err))
	}
	now := *planned
	now.Snapshot = mesh.Narrow(snapshot, planned.Experiment.Spec)
	now.Plan = mesh.Decide(now.Snapshot, now.Experiment, now.Options)
	if end := s.refusalOf(now.Plan); end != nil {
		return end
	}
	if !reflect.DeepEqual(planned.Plan, now.Plan) {
		return &ending{event.StatusRefused, "the routes to the target have changed since the run was planned", "nothing was injected; start again when the change is done"}
	}
	*planned = now
	return nil
}

// baseline refuses a run whose hypothesis does not hold before the fault.
func (s *session) baseline(ctx context.Context) *ending {
	length := s.experiment.Spec.SteadyState.Before
	s.record.add(event.Phase{Name: event.PhaseBaseline, Length: length})
	watcher := s.watcher()
	var baseline []steadystate.Measurement
	watcher.Record = func(m steadystate.Measurement) {
		baseline = append(baseline, m)
		s.record.add(event.Measured{Measurement: m})
	}
	findings := watcher.Watch(ctx, s.probes, experiments.Before, length.Duration)
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	s.findings = append(s.findings, findings...)
	if f, found := decisive(findings); found {
		return &ending{event.StatusRefused, fmt.Sprintf("the hypothesis does not hold before the fault: %s: %s", f.Probe, f.Reason), "nothing was injected; mend the system or the probe first"}
	}
	anchored, err := steadystate.Anchor(s.probes, baseline)
	if err != nil {
		return &ending{event.StatusRefused, err.Error(), "nothing was injected; give the probe min or max, or a query that has data"}
	}
	s.probes = anchored
	return nil
}

// disturb injects the fault, observes, counts, and rolls back whatever happens.
func (s *session) disturb(ctx context.Context, planned Planned, meter *effect.Meter) (ended *ending) {
	var changes []mesh.Ref
	var since time.Time
	var counting sync.WaitGroup
	// The observation ends when ctx does, when the heartbeat fails, when the
	// record does, or when the mesh changes so that the run cannot follow.
	observing, stop := context.WithCancelCause(ctx)
	s.record.onFailure(stop)
	beating := s.newHeartbeat(stop)
	defer func() {
		beating.stop()
		stop(nil)
		left := s.rollback(ctx, changes, ended)
		if !since.IsZero() {
			s.result.Injected.Duration = left.began.Sub(since).Round(time.Millisecond)
		}
		s.result.Rollback.Duration = left.took.Round(time.Millisecond)
		s.result.Left = left.objects
		s.ended = time.Now()
		counting.Wait()
	}()

	s.run.Expires = time.Now().Add(s.experiment.Spec.Duration.Duration + s.Timing.Grace)
	s.record.add(event.Phase{Name: event.PhaseInject})
	jobs, end := s.startHeartbeats(ctx, observing, planned.Plan, beating, &changes)
	if end != nil {
		return end
	}
	keeper := &keeper{session: s, planned: planned, end: stop, jobs: slices.Collect(maps.Values(jobs))}
	for _, object := range planned.At(0) {
		stamped := mesh.Stamp(object, s.run)
		if job, has := jobs[object.GetNamespace()]; has {
			stamped = mesh.Own(stamped, job)
		}
		created, err := s.create(ctx, stamped, &changes)
		taken, isTaken := errors.AsType[*TakenError](err)
		switch {
		case isTaken && !slices.ContainsFunc(keeper.owned, isVirtualService):
			return &ending{event.StatusRefused, taken.Error(), taken.Hint()}
		case err != nil:
			return s.fail(ctx, event.StatusFailed, err)
		}
		keeper.owned = append(keeper.owned, &owned{mesh.RefTo(created), created.GetGeneration(), created.GetResourceVersion(), object.Object["spec"]})
	}
	since = time.Now()
	keeper.since = since
	keeping := make(chan struct{})
	go func() {
		defer close(keeping)
		keeper.keep(observing)
	}()
	defer func() { stop(nil); <-keeping }()
	if meter != nil {
		counting.Go(func() { meter.Count(observing, since, func(c event.Counted) { s.record.add(c) }) })
	}

	s.record.add(event.Phase{Name: event.PhaseObserve, Length: s.experiment.Spec.Duration})
	findings := s.watcher().Watch(observing, s.probes, experiments.During, s.experiment.Spec.Duration.Duration)
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx)
	case observing.Err() != nil:
		if end, ok := errors.AsType[*ending](context.Cause(observing)); ok {
			return end
		}
		return &ending{status: event.StatusFailed, reason: context.Cause(observing).Error()}
	}
	s.findings = append(s.findings, findings...)
	if f, found := decisive(findings); found {
		return &ending{status: event.StatusStopped, reason: fmt.Sprintf("%s: %s", f.Probe, f.Reason)}
	}
	return nil
}

// startHeartbeats makes the Job that a plan's objects belong to in each of their
// namespaces, and beats for it.
func (s *session) startHeartbeats(ctx, observing context.Context, plan mesh.Plan, beating *heartbeat, changes *[]mesh.Ref) (jobs map[string]mesh.Ref, end *ending) {
	jobs = map[string]mesh.Ref{}
	if s.WithoutHeartbeat {
		return jobs, nil
	}
	for _, namespace := range slices.Sorted(maps.Keys(kindsIn(plan.Objects))) {
		job, err := s.create(ctx, s.heartbeatJob(namespace), changes)
		if err == nil {
			err = s.arm(ctx, mesh.RefTo(job))
		}
		if err != nil {
			if s.record.failed() != nil {
				return nil, s.fail(ctx, event.StatusFailed, err) // which is not about the Job
			}
			end := s.fail(ctx, event.StatusFailed, fmt.Errorf("heartbeat in %s: %w", namespace, err))
			end.hint = cmp.Or(end.hint, heartbeatHint)
			return nil, end
		}
		jobs[namespace] = mesh.RefTo(job)
		// The deadline counts from a moment just before this one, so the
		// runner never believes in a later one than the cluster.
		beating.start(observing, jobs[namespace], time.Now())
	}
	return jobs, nil
}

func isVirtualService(o *owned) bool { return o.Kind == "VirtualService" }

// createTimeout bounds one create.
const createTimeout = 10 * time.Second

// create records an object and then creates it. From the moment of the
// attempt it stands among the changes, because after an error nobody knows.
func (s *session) create(ctx context.Context, object *unstructured.Unstructured, changes *[]mesh.Ref) (*unstructured.Unstructured, error) {
	s.record.add(event.Creating{Object: object})
	if err := s.record.sync(ctx); err != nil {
		return nil, err
	}
	*changes = append(*changes, mesh.RefTo(object))
	// A request cut off half-way leaves open whether the object exists, so an
	// interruption waits for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	created, err := s.Mesh.Create(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", mesh.RefTo(object), err)
	}
	ref := mesh.RefTo(created)
	(*changes)[len(*changes)-1] = ref
	s.record.add(event.Created{Ref: ref})
	return created, nil
}

// armTimeout is how long the cluster may take to start counting a heartbeat's
// deadline. A cluster that takes longer could not be relied on to remove the
// fault.
const armTimeout = 10 * time.Second

func (s *session) arm(ctx context.Context, job mesh.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, armTimeout)
	defer cancel()
	return s.Mesh.Armed(ctx, job)
}

// recover watches until the hypothesis holds again.
func (s *session) recover(ctx context.Context) *ending {
	within := s.experiment.Spec.Recovery.Within
	s.record.add(event.Phase{Name: event.PhaseRecover, Length: within})
	findings, took := s.watcher().Recover(ctx, s.probes, within.Duration)
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	for i := range findings {
		if findings[i].Verdict != steadystate.Held {
			findings[i].Reason = fmt.Sprintf("not recovered within %s: %s", within, findings[i].Reason)
		}
	}
	s.findings = append(s.findings, findings...)
	if steadystate.Worst(findings) == steadystate.Held {
		s.result.Recovery.Duration = took.Round(time.Millisecond)
	}
	return nil
}

// conclude gives the verdict: the worst of what was found before, during and
// after the fault, and of its effect. A run that did not go its way to the end
// is at best inconclusive.
func (s *session) conclude(end *ending) event.Result {
	result := s.result
	result.Status, result.Findings = event.StatusCompleted, s.findings
	result.Verdict = steadystate.Worst(s.findings)
	if f, found := decisive(s.findings); found {
		result.Reason = fmt.Sprintf("%s (%s): %s", f.Probe, f.Phase, f.Reason)
	}
	if s.effect != nil && s.effect.Verdict > result.Verdict {
		result.Verdict, result.Reason = s.effect.Verdict, s.effect.Reason
	}
	if len(s.experiment.Spec.SteadyState.Probes) == 0 && result.Verdict == steadystate.Held {
		result.Verdict, result.Reason, result.Untested = steadystate.Inconclusive, "no hypothesis was tested", true
	}
	if end == nil {
		return result
	}
	result.Status, result.Reason, result.Hint = end.status, end.reason, end.hint
	switch end.status {
	case event.StatusRefused:
		result.Verdict = steadystate.Inconclusive
	case event.StatusCompleted, event.StatusStopped, event.StatusInterrupted, event.StatusFailed:
		result.Verdict = max(result.Verdict, steadystate.Inconclusive)
	}
	return result
}

func (s *session) watcher() steadystate.Watcher {
	return steadystate.Watcher{
		Querier:  s.Querier,
		Alerts:   s.Alerts,
		Interval: s.experiment.Spec.SteadyState.Interval.Duration,
		Record:   func(m steadystate.Measurement) { s.record.add(event.Measured{Measurement: m}) },

		Evaluated: s.evaluated,
	}
}

// fail ends a run on an error; when ctx has ended, that is the reason, and not
// the error that it caused.
func (s *session) fail(ctx context.Context, status event.Status, err error) *ending {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return &ending{status: status, reason: err.Error()}
}

// startEffect reads the counters of the requests hit before the fault. It returns
// nil when the experiment does not ask for them.
func (s *session) startEffect(ctx context.Context, planned Planned) (*effect.Meter, *ending) {
	if s.experiment.Spec.Effect.MinRequests == 0 {
		return nil, nil //nolint:nilnil // nothing is to be counted
	}
	meter, err := effect.Start(ctx, s.query, s.clock, s.experiment.Spec, planned.Decisions)
	if err != nil {
		end := s.fail(ctx, event.StatusRefused, err)
		end.hint = cmp.Or(end.hint, hint.Of(err))
		return nil, end
	}
	return meter, nil
}

// proveEffect records how many requests were hit.
func (s *session) proveEffect(ctx context.Context, meter *effect.Meter) *ending {
	if meter == nil {
		return nil
	}
	s.record.add(event.Phase{Name: event.PhaseEffect})
	proof, err := meter.Prove(ctx, s.ended)
	if err != nil {
		return interrupted(ctx)
	}
	s.effect = &proof
	s.record.add(proof)
	return nil
}

func queries(probes []experiments.Probe) map[string]string {
	all := map[string]string{}
	for _, p := range probes {
		all[p.Name] = p.PromQL()
	}
	return all
}

func interrupted(ctx context.Context) *ending {
	return &ending{status: event.StatusInterrupted, reason: context.Cause(ctx).Error()}
}

// decisive gives the finding that decides the verdict.
func decisive(findings []steadystate.Finding) (steadystate.Finding, bool) {
	worst := steadystate.Worst(findings)
	for _, f := range findings {
		if f.Verdict == worst && worst != steadystate.Held {
			return f, true
		}
	}
	return steadystate.Finding{}, false
}
