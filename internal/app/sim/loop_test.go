package sim

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// loop is the order of a simulation. Its goroutine alone changes the models: one
// event at a time, and only while all goroutines of Squall are blocked. A question
// of Squall to its surroundings is a call, which waits until the loop answers it.
type loop struct {
	*rand.Rand
	events events
	seq    int
	// after is called after every event.
	after func()

	mu      sync.Mutex
	arrived []*call
	ring    chan struct{}
}

func newLoop(seed uint64) *loop {
	return &loop{Rand: rand.New(rand.NewPCG(seed, 0)), ring: make(chan struct{}, 1)}
}

// call is one question of a process to a model.
type call struct {
	// key orders calls that arrive at the same moment. It must not depend on the
	// order of goroutines.
	key  string
	from *process
	ctx  context.Context //nolint:containedctx // of one call
	// arrive is called by the loop.
	arrive func(*call)
	answer chan any
}

// reply answers the call. Only the first answer counts.
func (c *call) reply(value any) {
	select {
	case c.answer <- value:
	default:
	}
}

// enter passes a call to the loop, and waits for the answer or for its context.
func (l *loop) enter(c *call) (any, error) {
	c.answer = make(chan any, 1)
	l.mu.Lock()
	l.arrived = append(l.arrived, c)
	l.mu.Unlock()
	select {
	case l.ring <- struct{}{}:
	default:
	}
	select {
	case value := <-c.answer:
		return value, nil
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}

// happening is something that a model does at a time.
type happening struct {
	at  time.Time
	seq int
	do  func()
}

type events []happening

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if e[i].at.Equal(e[j].at) {
		return e[i].seq < e[j].seq
	}
	return e[i].at.Before(e[j].at)
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(happening)) } //nolint:forcetypeassert // heap.Push below
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// in lets something happen after a time. Some nanoseconds are added, so that no two
// things of the world happen at the same moment.
func (l *loop) in(d time.Duration, do func()) {
	l.seq++
	heap.Push(&l.events, happening{at: time.Now().Add(d + time.Duration(l.IntN(1000))), seq: l.seq, do: do})
}

// run carries out events until done reports true.
func (l *loop) run(done func() bool) {
	for {
		synctest.Wait()
		for _, c := range l.take() {
			c.arrive(c)
		}
		if done() {
			return
		}
		switch {
		case len(l.events) == 0:
			<-l.ring
		case l.events[0].at.After(time.Now()):
			timer := time.NewTimer(time.Until(l.events[0].at))
			select {
			case <-l.ring:
			case <-timer.C:
			}
			timer.Stop()
		default:
			next, _ := heap.Pop(&l.events).(happening)
			next.do()
			if l.after != nil {
				l.after()
			}
		}
	}
}

// take returns the calls that have arrived, in an order that does not depend on the
// scheduler of Go.
func (l *loop) take() []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	arrived := l.arrived
	l.arrived = nil
	slices.SortStableFunc(arrived, func(a, b *call) int {
		if a.from != b.from {
			return strings.Compare(a.from.name, b.from.name)
		}
		return strings.Compare(a.key, b.key)
	})
	return arrived
}

// chance reports true with a probability.
func (l *loop) chance(p float64) bool { return l.Float64() < p }

// between draws a duration.
func (l *loop) between(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(l.Int64N(int64(to-from)))
}

// skewed draws a duration that is mostly short.
func (l *loop) skewed(from, to time.Duration) time.Duration {
	x := l.Float64()
	return from + time.Duration(float64(to-from)*x*x*x)
}
