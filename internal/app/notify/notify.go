// Package notify sends notifications about runs to people and other programs: chat
// and e-mail through shoutrrr, webhooks, and annotations in Grafana.
//
// A target that fails never disturbs a run or another target. The URLs of targets
// are secrets: no error contains one.
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

// Kind is the kind of an event.
type Kind string

// The kinds of events.
const (
	Started  Kind = "started"
	Stopped  Kind = "stopped" // early; Finished follows
	Finished Kind = "finished"
)

// Event is something that happened to a run.
type Event struct {
	Kind       Kind   `json:"event"`
	Run        string `json:"run"`
	Experiment string `json:"experiment"`
	Title      string `json:"title,omitempty"`
	// Host is the target of the experiment, and Callers are the namespaces of its
	// callers.
	Host    string   `json:"host"`
	Callers []string `json:"callers"`
	// Verdict and Status are set for Finished.
	Verdict   string `json:"verdict,omitempty"`
	Status    string `json:"status,omitempty"`
	Reason    string `json:"reason,omitempty"`
	ReportURL string `json:"reportURL,omitempty"`
	// From and To are the start and the end of the fault, for Finished; zero if
	// there was no fault.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
}

const (
	// queued is the number of messages that wait for one target.
	queued = 100
	// attempts is the number of attempts for one message, each limited by timeout.
	attempts = 3
	timeout  = 10 * time.Second
	// firstPause is the pause before the second attempt. Each later pause is longer
	// by the factor growth. Jitter makes each up to half longer.
	firstPause = time.Second
	growth     = 4
	jitter     = 0.5
	// maxPause limits the wait that a target may ask for. If it asks for more, its
	// message is dropped.
	maxPause = time.Minute
)

var (
	errDropped = errors.New("too many messages wait for this target, so the oldest was dropped")
	errEnded   = errors.New("squall ended before it was sent")
)

// message is an Event and its time.
type message struct {
	Event
	at time.Time
}

// sender makes one attempt. It is called by a single goroutine, repeatedly with the
// same message until it is sent or dropped.
type sender interface {
	send(ctx context.Context, m *message) error
}

// target is one destination of messages.
type target struct {
	// name contains no secret.
	name   string
	sender sender
	queue  chan *message
	failed func(target string, err error)
	// quietUntil is the time until which the target asked to wait.
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

// New returns a Notifier that sends to the URLs, which are as in Load, and to
// Grafana unless it is nil. failed is called for each message that is not
// delivered, with the name of the target; neither the name nor the error contains a
// secret. failed is called by several goroutines, and by Notify, so it must not
// block or call the Notifier. New returns an error if a URL is not valid.
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
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // queued messages are sent until Close
	n.cancel = cancel
	for _, t := range n.targets {
		n.workers.Go(func() { t.work(ctx) })
	}
}

// Notify queues an event for every target. It does not block: if too many messages
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

// put queues a message. It is called with the Notifier's lock, so there is still
// space after it has dropped the oldest message.
func (t *target) put(m *message) {
	select {
	case t.queue <- m:
		return
	default:
	}
	select {
	case oldest := <-t.queue:
		t.failed(t.name, oldest.lost(errDropped))
	default: // the worker has taken the oldest message
	}
	t.queue <- m
}

// Close sends queued messages until ctx is done, and calls failed for the rest.
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

// deliver tries until the message is sent, or until a retry is useless.
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

// await waits until the target accepts requests again.
func (t *target) await(ctx context.Context) error {
	left := time.Until(t.quietUntil)
	if left > maxPause {
		return fmt.Errorf("it asked to wait for another %s", left.Round(time.Second))
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

// Targets returns the names of the targets.
func (n *Notifier) Targets() []string {
	names := make([]string, len(n.targets))
	for i, t := range n.targets {
		names[i] = t.name
	}
	return names
}
