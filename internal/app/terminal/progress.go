package terminal

import (
	"io"
	"time"

	"github.com/squall-chaos/squall/runner/journal"
)

// Progress shows what happens in a run, as it happens. It shows it from a
// goroutine of its own: a terminal that has been stopped must not stop the watch
// on the hypothesis.
type Progress struct {
	painter painter
	queue   chan happening
	done    chan struct{}
}

// painter shows what happens. It is called by one goroutine at a time.
type painter interface {
	// paint shows an event.
	paint(h happening)
	// every is how often refresh is called; 0 means never.
	every() time.Duration
	// refresh shows that time has passed.
	refresh(now time.Time)
	// finish is called at the end.
	finish()
}

// happening is one event that has not been printed yet, as the journal has it
// and as the runner gave it.
type happening struct {
	event journal.Event
	data  any
}

// The bounds on what may wait to be printed, and on how long its end is waited
// for.
const (
	maxQueue     = 10_000
	flushTimeout = time.Second
)

func newProgress(p painter) *Progress {
	shown := &Progress{painter: p, queue: make(chan happening, maxQueue), done: make(chan struct{})}
	go shown.loop()
	return shown
}

// NewProgress shows what happens on out: on a terminal as a picture that moves, and
// line by line anywhere else, or if the environment asks for it (CI, TERM=dumb).
func NewProgress(out io.Writer, getenv func(string) string, format Format, verbose bool) *Progress {
	if format == JSON {
		return newProgress(jsonLines{out})
	}
	text := &lines{out: out, verbose: verbose, began: time.Now()}
	if size := sizeOf(out, getenv); size != nil {
		return newProgress(newLive(text, size, getenv("NO_COLOR") == ""))
	}
	return newProgress(text)
}

func (p *Progress) loop() {
	defer close(p.done)
	defer p.painter.finish()
	var tick <-chan time.Time
	if every := p.painter.every(); every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case h, more := <-p.queue:
			if !more {
				return
			}
			p.painter.paint(h)
		case now := <-tick:
			p.painter.refresh(now)
		}
	}
}

// Show queues an event. When nobody has read for long, it is dropped; the
// journal has it.
func (p *Progress) Show(event journal.Event, data any) {
	select {
	case p.queue <- happening{event, data}:
	default:
	}
}

// Flush waits, for a moment, until everything is printed.
func (p *Progress) Flush() {
	close(p.queue)
	select {
	case <-p.done:
	case <-time.After(flushTimeout):
	}
}
