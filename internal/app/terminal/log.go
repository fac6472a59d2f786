package terminal

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/squall-chaos/squall/runner/journal"
)

// NewLog makes the log of squall serve, and what ends it.
func NewLog(out io.Writer, format Format, verbose bool) (log *slog.Logger, flush func()) {
	queue := &lineQueue{progress: newProgress(rawLines{out})}
	options := &slog.HandlerOptions{}
	if verbose {
		options.Level = slog.LevelDebug
	}
	if format == JSON {
		return slog.New(slog.NewJSONHandler(queue, options)), queue.flush
	}
	return slog.New(slog.NewTextHandler(queue, options)), queue.flush
}

// lineQueue lets whoever reads the log, and does not, hold up no run: it shows
// lines as progress is shown.
type lineQueue struct {
	mu       sync.Mutex
	progress *Progress // nil after the end
}

// Write implements io.Writer. When nobody has read for long, the line is lost;
// the journals have what matters.
func (q *lineQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.progress != nil {
		q.progress.Show(journal.Event{}, bytes.Clone(line)) // a handler uses its buffer again
	}
	return len(line), nil
}

// flush waits, for a moment, until everything is written.
func (q *lineQueue) flush() {
	q.mu.Lock()
	last := q.progress
	q.progress = nil
	q.mu.Unlock()
	if last != nil {
		last.Flush()
	}
}

// rawLines prints lines as they are.
type rawLines struct{ out io.Writer }

func (r rawLines) paint(h happening) {
	if line, is := h.data.([]byte); is {
		_, _ = r.out.Write(line) // nobody is left to tell
	}
}

func (rawLines) every() time.Duration { return 0 }
func (rawLines) refresh(time.Time)    {}
func (rawLines) finish()              {}
