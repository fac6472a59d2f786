// Package notify tells people and other programs about runs: chat and e-mail
// through shoutrrr, webhooks, and annotations in Grafana.
//
// A target that does not take a message never disturbs a run, nor another
// target. The URLs of targets are secrets: no error shows one.
package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/squall-chaos/squall/internal/sleep"
)

// Kind is what happened to a run.
type Kind string

// The kinds.
const (
	Started  Kind = "started"
	Stopped  Kind = "stopped" // early; Finished follows
	Finished Kind = "finished"
)

// Event is what is told of a run.
type Event struct {
	Kind       Kind   `json:"event"`
	Run        string `json:"run"`
	Experiment string `json:"experiment"`
	Title      string `json:"title,omitempty"`
	// Host is the one whose incoming calls are disturbed, and Callers are those
	// who call it.
	Host    string   `json:"host"`
	Callers []string `json:"callers"`
	// Verdict and Status are those of a run that has finished.
	Verdict   string `json:"verdict,omitempty"`
	Status    string `json:"status,omitempty"`
	Reason    string `json:"reason,omitempty"`
	ReportURL string `json:"reportURL,omitempty"`
	// From and To are when the fault was in force, for Finished; zero when it
	// never was.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
}

const (
	// queued is how many messages wait for one target.
	queued = 100
	// attempts is how often one message is sent, each within timeout.
	attempts = 3
	timeout  = 10 * time.Second
	// firstPause comes before the second attempt; each later one is as many
	// times longer as growth says. Jitter makes each up to half longer.
	firstPause = time.Second
	growth     = 4
	jitter     = 0.5
	// maxPause is how long a target may ask to be left alone until its message
	// is given up.
	maxPause = time.Minute
)

var (
	errDropped = errors.New("too many messages wait for this target, so the oldest was dropped")
	errEnded   = errors.New("squall ended before it was sent")
)

// message is an Event and when it came.
type message struct {
	Event
	at time.Time
}

// sender makes one attempt. It is called by one goroutine only, again and again
// with the same message until that is sent or given up.
type sender interface {
	send(ctx context.Context, m *message) error
}

// target is one place that is told.
type target struct {
	// name holds no secret.
	name   string
	sender sender
	queue  chan *message
	failed func(target string, err error)
	// quietUntil is when the target wants to be asked again.
	quietUntil time.Time
}

// Notifier sends events to targets.
type Notifier struct {
	targets []*target
	client  *http.Client
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

// New makes a Notifier that sends to the URLs, which are as in Load, and to
// Grafana unless that is nil. Whatever is not delivered is told to failed, with
// a name of the target; neither the name nor the error holds a secret. Failed is
// called by several goroutines, and by Notify, so it must not block, nor call
// the Notifier.
func New(urls []string, grafana *Grafana, failed func(target string, err error)) (*Notifier, error) {
	n := &Notifier{client: newClient()}
	for i, raw := range urls {
		name, sender, err := parse(raw, n.client)
		if err != nil {
			return nil, fmt.Errorf("notification URL %d: %w", i+1, err)
		}
		n.add(name, sender, failed)
	}
	if grafana != nil {
		name, sender, err := newAnnotator(*grafana, n.client)
		if err != nil {
			return nil, err
		}
		n.add(name, sender, failed)
	}
	n.start()
	return n, nil
}

func (n *Notifier) add(name string, s sender, failed func(string, error)) {
	n.targets = append(n.targets, &target{name: name, sender: s, queue: make(chan *message, queued), failed: failed})
}

func (n *Notifier) start() {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // what is queued outlives whoever queued it, until Close
	n.cancel = cancel
	for _, t := range n.targets {
		n.workers.Go(func() { t.work(ctx) })
	}
}

// Notify queues an event for every target. It does not block: where too many
// wait, the oldest is dropped.
func (n *Notifier) Notify(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := &message{Event: e, at: time.Now()}
	for _, t := range n.targets {
		if n.closed {
			t.failed(t.name, m.lost(errEnded))
			continue
		}
		t.put(m)
	}
}

// put is called under the Notifier's lock, so a place that it makes stays free.
func (t *target) put(m *message) {
	select {
	case t.queue <- m:
		return
	default:
	}
	select {
	case oldest := <-t.queue:
		t.failed(t.name, oldest.lost(errDropped))
	default: // the worker has just taken it
	}
	t.queue <- m
}

// Close sends what is queued until ctx ends, and tells failed of the rest.
func (n *Notifier) Close(ctx context.Context) {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		for _, t := range n.targets {
			close(t.queue)
		}
	}
	n.mu.Unlock()
	stop := context.AfterFunc(ctx, n.cancel)
	defer stop()
	n.workers.Wait()
	n.cancel()
	n.client.CloseIdleConnections()
}

func (t *target) work(ctx context.Context) {
	for m := range t.queue {
		if err := t.deliver(ctx, m); err != nil {
			t.failed(t.name, m.lost(err))
		}
	}
}

// deliver tries until the message is sent, or trying again is of no use.
func (t *target) deliver(ctx context.Context, m *message) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		if err := t.await(ctx); err != nil {
			return err
		}
		why := t.attempt(ctx, m)
		switch {
		case why == nil:
			return nil
		case ctx.Err() != nil:
			return errEnded
		case why.final, attempt == attempts:
			return why
		}
		if time.Until(t.quietUntil) > maxPause {
			return why
		}
		if !sleep.For(ctx, max(wait.Jitter(pause, jitter), time.Until(t.quietUntil))) {
			return errEnded
		}
		pause *= growth
	}
}

// await waits until the target may be asked again.
func (t *target) await(ctx context.Context) error {
	left := time.Until(t.quietUntil)
	if left > maxPause {
		return fmt.Errorf("it asked to be left alone for another %s", left.Round(time.Second))
	}
	if !sleep.For(ctx, left) {
		return errEnded
	}
	return nil
}

func (t *target) attempt(ctx context.Context, m *message) *failure {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := t.sender.send(ctx, m)
	if err == nil {
		return nil
	}
	why := explain(err)
	if why.retryAfter > 0 {
		t.quietUntil = time.Now().Add(why.retryAfter)
	}
	return why
}

func (m *message) lost(err error) error {
	return fmt.Errorf("%q of run %s was not delivered: %w", m.Kind, m.Run, err)
}

// Targets names who is told.
func (n *Notifier) Targets() []string {
	names := make([]string, len(n.targets))
	for i, t := range n.targets {
		names[i] = t.name
	}
	return names
}
