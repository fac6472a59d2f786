package terminal

import (
	"sync"
	"time"
)

// The limits of a queue: how many items may wait, and how long flush waits.
const (
	maxQueue     = 10_000
	flushTimeout = time.Second
)

// queue passes items to a painter in another goroutine: a stopped terminal must
// not delay a run.
type queue[T any] struct {
	painter painter[T]
	items   chan T
	done    chan struct{}

	mu     sync.Mutex
	closed bool
}

// painter shows items. It is called by one goroutine at a time.
type painter[T any] interface {
	// paint shows an item.
	paint(item T)
	// every is how often refresh is called; 0 means never.
	every() time.Duration
	// refresh shows that time has passed.
	refresh(now time.Time)
	// finish is called at the end.
	finish()
}

func newQueue[T any](p painter[T]) *queue[T] {
	q := &queue[T]{painter: p, items: make(chan T, maxQueue), done: make(chan struct{})}
	go q.loop()
	return q
}

func (q *queue[T]) loop() {
	defer close(q.done)
	defer q.painter.finish()
	var tick <-chan time.Time
	if every := q.painter.every(); every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case item, more := <-q.items:
			if !more {
				return
			}
			q.painter.paint(item)
		case now := <-tick:
			q.painter.refresh(now)
		}
	}
}

// add adds an item. It drops the item when the queue is full, and after flush.
func (q *queue[T]) add(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	select {
	case q.items <- item:
	default:
	}
}

// flush closes the queue and waits up to flushTimeout until all items are shown.
func (q *queue[T]) flush() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.items)
	}
	q.mu.Unlock()
	select {
	case <-q.done:
	case <-time.After(flushTimeout):
	}
}
