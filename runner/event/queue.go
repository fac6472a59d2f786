package event

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"
)

// The limits on the time to record an event.
const (
	// recordPatience is how long a run waits for an event to be recorded: a slow disk
	// must not keep a fault active.
	recordPatience = 100 * time.Millisecond
	// recordTimeout is the time after which the record counts as failed.
	recordTimeout = 10 * time.Second
)

// Queue passes events to a recorder in order, without delaying the run, and keeps the
// first error. The error refuses a run that has not injected yet, and ends one that
// has. It is safe for concurrent use.
type Queue struct {
	recorder Recorder

	mu      sync.Mutex
	queue   []*pending
	last    *pending
	writing bool // a goroutine empties the queue
	late    bool // the recorder is behind, so Add does not wait
	err     error
	end     context.CancelCauseFunc
	failing chan struct{} // closed at the first error
}

// pending is an event that is not recorded yet.
type pending struct {
	at    time.Time
	event Event
	done  chan struct{}
}

// NewQueue returns a queue for a recorder.
func NewQueue(recorder Recorder) *Queue {
	nothing := &pending{done: make(chan struct{})}
	close(nothing.done)
	return &Queue{recorder: recorder, last: nothing, failing: make(chan struct{})}
}

// Add records an event. It returns before that is done if it takes longer than
// 100 ms, or if earlier events are not recorded yet.
func (q *Queue) Add(e Event) { q.AddAt(time.Now(), e) }

// AddAt is Add for an event that has happened at an earlier time.
func (q *Queue) AddAt(at time.Time, e Event) {
	next := &pending{at: at, event: e, done: make(chan struct{})}
	q.mu.Lock()
	q.queue, q.last = append(q.queue, next), next
	if !q.writing {
		q.writing = true
		go q.write()
	}
	late := q.late
	q.mu.Unlock()
	if late {
		return
	}
	select {
	case <-next.done:
	case <-time.After(recordPatience):
		q.mu.Lock()
		defer q.mu.Unlock()
		q.late = q.writing
	}
}

// write records the queued events until the queue is empty.
func (q *Queue) write() {
	for {
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.writing, q.late = false, false
			q.mu.Unlock()
			return
		}
		next := q.queue[0]
		q.queue = q.queue[1:]
		q.mu.Unlock()
		timer := time.AfterFunc(recordTimeout, func() { q.fail(fmt.Errorf("nothing could be recorded for %s", recordTimeout)) })
		err := q.recorder.Record(next.at, next.event)
		timer.Stop()
		if err != nil {
			q.fail(err)
		}
		close(next.done)
	}
}

func (q *Queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
		close(q.failing)
	}
	if q.end != nil {
		q.end(q.err)
	}
}

// Sync waits until the last event is recorded or the record has failed. It returns
// the first error, or the error of ctx.
func (q *Queue) Sync(ctx context.Context) error {
	select {
	case <-q.latest().done:
	case <-q.failing:
	case <-ctx.Done():
	}
	return cmp.Or(q.Failed(), ctx.Err())
}

// Flush waits until the last event is recorded, also after an error, but not longer
// than 10 seconds. It returns the first error.
func (q *Queue) Flush() error {
	select {
	case <-q.latest().done:
	case <-time.After(recordTimeout):
	}
	return q.Failed()
}

func (q *Queue) latest() *pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.last
}

// Failed returns the first error.
func (q *Queue) Failed() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// OnFailure sets a function that is called when an event cannot be recorded.
func (q *Queue) OnFailure(end context.CancelCauseFunc) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.end = end
}
