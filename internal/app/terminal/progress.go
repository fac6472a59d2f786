package terminal

import (
	"io"
	"time"

	"github.com/squall-chaos/squall/runner/event"
)

// Progress is an event.Recorder that shows a run as it happens.
type Progress struct{ queue *queue[happening] }

// happening is an event and its time.
type happening struct {
	at    time.Time
	event event.Event
}

// NewProgress shows what happens on out: on a terminal as a picture that moves, and
// line by line anywhere else, or if the environment asks for it (CI, TERM=dumb).
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

// Flush waits, for a moment, until everything is printed.
func (p *Progress) Flush() { p.queue.flush() }
