package terminal

import (
	"io"
	"time"

	"github.com/squall-chaos/squall/runner/event"
)

// Progress is an event.Recorder that shows a run as it happens.
type Progress struct{ queue *queue[happening] }

// happening is an event and its time. Without an event it is the signal that ends the
// run.
type happening struct {
	at    time.Time
	event event.Event
}

// NewProgress shows a run on out: as a live view if out is a terminal, and line by
// line otherwise. CI and TERM=dumb in the environment turn the live view off, and
// NO_COLOR its colours.
func NewProgress(out io.Writer, getenv func(string) string, format Format, verbose bool) *Progress {
	if format == JSON {
		return &Progress{queue: newQueue(jsonLines{out})}
	}
	text := &lines{out: out, verbose: verbose, began: time.Now()}
	if size := sizeOf(out, getenv); size != nil {
		return &Progress{queue: newQueue(newLive(text, size, getenv("NO_COLOR") == ""))}
	}
	return &Progress{queue: newQueue(text)}
}

// Record implements event.Recorder. It never waits and returns no error: when the
// queue is full, the event is not shown.
func (p *Progress) Record(at time.Time, e event.Event) error {
	p.queue.add(happening{at: at, event: e})
	return nil
}

// Interrupted shows at once that a signal ends the run. The events of the rollback come
// when objects are deleted.
func (p *Progress) Interrupted() { p.queue.add(happening{at: time.Now()}) }

// Flush waits up to a second until all events are printed.
func (p *Progress) Flush() { p.queue.flush() }
