package runs

import (
	"context"
	"fmt"
	"sync"
)

// joined asks a question on behalf of many runs at the same moment. An answer serves
// all runs that have asked before the question was sent, so no run gets an answer that
// is older than its call. They must not change it.
type joined[T any] struct {
	ask func(context.Context) (T, error)
	// subject is what runs wait for.
	subject string

	mu     sync.Mutex
	next   *question[T] // not sent
	asking bool
}

// question is canceled when no run waits for its answer any more.
type question[T any] struct {
	ctx     context.Context //nolint:containedctx // it outlives the call that begins it
	cancel  context.CancelFunc
	waiting int
	done    chan struct{}
	answer  T
	err     error
}

// get returns the answer to a question that is sent after the call.
func (j *joined[T]) get(ctx context.Context) (answer T, err error) {
	q := j.join(ctx)
	defer j.leave(q)
	select {
	case <-q.done:
		return q.answer, q.err
	case <-ctx.Done():
		return answer, fmt.Errorf("waiting for %s: %w", j.subject, context.Cause(ctx))
	}
}

// join returns the next question, and sends it unless another one is under way.
func (j *joined[T]) join(ctx context.Context) *question[T] {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next == nil {
		asking, cancel := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // leave cancels it
		j.next = &question[T]{ctx: asking, cancel: cancel, done: make(chan struct{})}
	}
	q := j.next
	q.waiting++
	if !j.asking {
		j.asking = true
		go j.askAll()
	}
	return q
}

// leave cancels a question when no other run waits for its answer.
func (j *joined[T]) leave(q *question[T]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if q.waiting--; q.waiting > 0 {
		return
	}
	q.cancel()
	if j.next == q {
		j.next = nil
	}
}

// askAll asks until no run waits for a question that was not sent.
func (j *joined[T]) askAll() {
	for q := j.take(); q != nil; q = j.take() {
		q.answer, q.err = j.ask(q.ctx)
		close(q.done)
	}
}

func (j *joined[T]) take() *question[T] {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := j.next
	j.next, j.asking = nil, q != nil
	return q
}
