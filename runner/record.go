package runner

import (
	"context"
	"sync"
	"time"
)

// record passes events on to a Recorder and keeps its first error: that error
// refuses a run that has not injected yet, and ends one that has.
type record struct {
	recorder Recorder
	mu       sync.Mutex
	err      error
	end      context.CancelCauseFunc
}

func (r *record) add(eventType string, data any) {
	err := r.recorder.Record(time.Now(), eventType, data)
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	if r.end != nil {
		r.end(r.err)
	}
}

// failed gives the first error.
func (r *record) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// onFailure calls end when an event cannot be recorded from now on.
func (r *record) onFailure(end context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = end
}
