package event

import "time"

// Recorder receives the events of a run in order. A run calls Record from one
// goroutine at a time. A call that takes longer than the run waits for it may
// still be in progress when the run has returned.
type Recorder interface {
	// Record returns an error when the event could not be recorded. A run that
	// cannot be recorded ends.
	Record(at time.Time, e Event) error
}

// RecorderFunc is a function that is a Recorder.
type RecorderFunc func(at time.Time, e Event) error

// Record implements Recorder.
func (f RecorderFunc) Record(at time.Time, e Event) error { return f(at, e) }

// Fanout returns a recorder that passes each event to several recorders, one
// after another. When one of them returns an error, those after it do not get
// the event, and Record returns that error.
func Fanout(recorders ...Recorder) Recorder {
	return RecorderFunc(func(at time.Time, e Event) error {
		for _, r := range recorders {
			if err := r.Record(at, e); err != nil {
				return err
			}
		}
		return nil
	})
}
