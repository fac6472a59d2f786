package runner

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/squall-chaos/squall/runner/event"
)

// The limits on the time to record an event.
const (
	// recordPatience is how long a run waits for an event to be recorded: a slow disk
	// must not keep a fault active.
	recordPatience = 100 * time.Millisecond
	// recordTimeout is the time after which the record counts as failed.
	recordTimeout = 10 * time.Second
)

// record passes events to a recorder in order, and keeps the first error. The error
// refuses a run that has not injected yet, and ends one that has.
type record struct {
	recorder event.Recorder

	mu      sync.Mutex
	queue   []*pending
	last    *pending
	writing bool // a goroutine empties the queue
	late    bool // the recorder is behind, so add does not wait
	err     error
	end     context.CancelCauseFunc
	failing chan struct{} // closed at the first error
}

// pending is an event that is not recorded yet.
type pending struct {
	at    time.Time
	event event.Event
	done  chan struct{}
}

func newRecord(recorder event.Recorder) *record {
	return &record{recorder: recorder, failing: make(chan struct{})}
}

// add records an event. It returns earlier if that takes longer than
// recordPatience.
func (r *record) add(e event.Event) {
	next := &pending{at: time.Now(), event: e, done: make(chan struct{})}
	r.mu.Lock()
	r.queue, r.last = append(r.queue, next), next
	if !r.writing {
		r.writing = true
		go r.write()
	}
	late := r.late
	r.mu.Unlock()
	if late {
		return
	}
	select {
	case <-next.done:
	case <-time.After(recordPatience):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.late = r.writing
	}
}

// write records the queued events until the queue is empty.
func (r *record) write() {
	for {
		r.mu.Lock()
		if len(r.queue) == 0 {
			r.writing, r.late = false, false
			r.mu.Unlock()
			return
		}
		next := r.queue[0]
		r.queue = r.queue[1:]
		r.mu.Unlock()
		timer := time.AfterFunc(recordTimeout, func() { r.fail(fmt.Errorf("nothing could be recorded for %s", recordTimeout)) })
		err := r.recorder.Record(next.at, next.event)
		timer.Stop()
		if err != nil {
			r.fail(err)
		}
		close(next.done)
	}
}

func (r *record) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		close(r.failing)
	}
	if r.end != nil {
		r.end(r.err)
	}
}

// sync waits until the last event is recorded or the record has failed. It returns
// the first error, or the error of ctx.
func (r *record) sync(ctx context.Context) error {
	select {
	case <-r.latest().done:
	case <-r.failing:
	case <-ctx.Done():
	}
	return cmp.Or(r.failed(), ctx.Err())
}

// flush waits until the last event is recorded, also after an error, but not longer
// than recordTimeout. It returns the first error.
func (r *record) flush() error {
	select {
	case <-r.latest().done:
	case <-time.After(recordTimeout):
	}
	return r.failed()
}

func (r *record) latest() *pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// failed returns the first error.
func (r *record) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// onFailure sets a function that is called when an event cannot be recorded.
func (r *record) onFailure(end context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = end
}
