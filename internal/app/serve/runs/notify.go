package runs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Event is a Kubernetes Event.
type Event struct {
	// About is the object that the Event is about.
	About objects.Ref
	// Warning makes its type Warning; otherwise it is Normal.
	Warning bool
	Reason  string
	Message string
}

// emitTimeout bounds the write of a Kubernetes Event.
const emitTimeout = 5 * time.Second

// notifyPhase notifies of a fault that is injected, and of one that ends early.
func (l *Live) notifyPhase(one *run, phase event.Phase) {
	switch {
	case phase.Name == event.PhaseObserve:
		l.config.Notify(one.message(notify.Started))
		when := fmt.Sprintf("a fault is active for %s", phase.Length)
		if first := one.request.Experiment.Spec.FirstStart(); first > 0 {
			when = fmt.Sprintf("a fault starts in %s, and all end after %s", first, phase.Length)
		}
		l.emit(one, Event{Reason: "FaultStarted", Message: fmt.Sprintf("%s: %s; end it: squall rollback %s", one.name(), when, one.id)})
	case phase.Name == event.PhaseRollback && phase.Reason != "":
		message := one.message(notify.Stopped)
		message.Reason = phase.Reason
		l.config.Notify(message)
		l.emit(one, Event{Warning: true, Reason: "FaultStoppedEarly", Message: fmt.Sprintf("%s: %s", one.name(), phase.Reason)})
	}
	l.Publish()
}

// notifyEnd notifies of the result of a run.
func (l *Live) notifyEnd(one *run, result event.Result) {
	message := one.message(notify.Finished)
	if result.Status == event.StatusRefused { // no fault was active, even if an object was about to be created
		message.From, message.To = time.Time{}, time.Time{}
	}
	message.Verdict, message.Status, message.Reason = result.Verdict.String(), string(result.Status), result.Reason
	if l.config.ExternalURL != "" {
		message.ReportURL = strings.TrimSuffix(l.config.ExternalURL, "/") + "/runs/" + one.id + "/" + reports.FormatHTML.FileName()
	}
	l.config.Notify(message)
	text := fmt.Sprintf("%s: %s (%s)", one.name(), result.Verdict, result.Status)
	if result.Reason != "" {
		text += ": " + result.Reason
	}
	l.emit(one, Event{Warning: result.Verdict != steadystate.Held, Reason: "ExperimentFinished", Message: text})
}

// emit writes a Kubernetes Event for each namespace of callers. It does not wait:
// an API server that hangs must not delay the run.
func (l *Live) emit(one *run, event Event) {
	one.mu.Lock()
	decided := slices.Clone(one.decided)
	one.mu.Unlock()
	seen := map[string]bool{}
	for _, d := range decided {
		if seen[d.Callers] {
			continue
		}
		seen[d.Callers] = true
		event := event // each goroutine has its own
		event.About = about(d)
		l.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(one.ctx), emitTimeout)
			defer cancel()
			if err := l.config.Emit(ctx, event); err != nil {
				l.config.Log.Warn("cannot write a Kubernetes Event", "run", one.id, "error", err)
			}
		})
	}
}

// about returns the Service of the target if it is in the callers' namespace, and
// the namespace otherwise.
func about(d mesh.Decision) objects.Ref {
	if name, namespace, ok := host.Parse(d.Host, "").AsService(); ok && namespace == d.Callers {
		return objects.Ref{APIVersion: "v1", Kind: "Service", Namespace: namespace, Name: name}
	}
	return objects.Ref{APIVersion: "v1", Kind: "Namespace", Namespace: d.Callers, Name: d.Callers}
}
