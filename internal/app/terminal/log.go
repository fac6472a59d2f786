package terminal

import (
	"bytes"
	"io"
	"log/slog"
	"time"
)

// NewLog returns the log of squall serve and a function that ends it. The function
// waits up to a second until all lines are written.
func NewLog(out io.Writer, format Format, verbose bool) (log *slog.Logger, flush func()) {
	lines := lineQueue{queue: newQueue(rawLines{out})}
	options := &slog.HandlerOptions{}
	if verbose {
		options.Level = slog.LevelDebug
	}
	if format == JSON {
		return slog.New(slog.NewJSONHandler(lines, options)), lines.queue.flush
	}
	return slog.New(slog.NewTextHandler(lines, options)), lines.queue.flush
}

// lineQueue is a log writer that never blocks: a stalled reader must not delay a
// run.
type lineQueue struct{ queue *queue[[]byte] }

// Write implements io.Writer. A line that does not fit the queue is lost.
func (l lineQueue) Write(line []byte) (int, error) {
	l.queue.add(bytes.Clone(line)) // the handler reuses its buffer
	return len(line), nil
}

// rawLines prints lines as they are.
type rawLines struct{ out io.Writer }

func (r rawLines) paint(line []byte) {
	_, _ = r.out.Write(line) // a log that cannot be written cannot report it
}

func (rawLines) every() time.Duration { return 0 }
func (rawLines) refresh(time.Time)    {}
func (rawLines) finish()              {}
