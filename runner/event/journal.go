package event

import (
	"encoding/json"
	"time"

	"github.com/squall-chaos/squall/runner/journal"
)

// registry has an entry for each type of event, in the order in which a run
// usually records them.
var registry = []entry{ //nolint:gochecknoglobals // a constant table
	entryOf[Started](),
	entryOf[Planned](),
	entryOf[Phase](),
	entryOf[Measured](),
	entryOf[Creating](),
	entryOf[Created](),
	entryOf[Updating](),
	entryOf[Updated](),
	entryOf[UpdateFailed](),
	entryOf[Deleting](),
	entryOf[Deleted](),
	entryOf[HeartbeatFailed](),
	entryOf[Counted](),
	entryOf[Clean](),
	entryOf[Effect](),
	entryOf[Finished](),
}

// entry is one type of event.
type entry struct {
	zero   Event
	decode func(data []byte) (Event, error)
}

func entryOf[T Event]() entry {
	var zero T
	return entry{zero: zero, decode: func(data []byte) (Event, error) {
		var e T
		err := json.Unmarshal(data, &e)
		return e, err
	}}
}

// UnknownTypeError is the error of Decode for a line of an unknown type.
type UnknownTypeError struct{ Type string }

func (e *UnknownTypeError) Error() string { return "unknown type of event: " + e.Type }

// Encode returns the line of a journal for an event.
func Encode(at time.Time, e Event) (journal.Line, error) {
	return journal.NewLine(at, e.Type(), e)
}

// Decode returns the event of a line of a journal. If this version does not know the
// type, for example because a newer version wrote the journal, the error is an
// *UnknownTypeError.
func Decode(line journal.Line) (Event, error) {
	for _, one := range registry {
		if one.zero.Type() == line.Type {
			return one.decode(line.Data)
		}
	}
	return nil, &UnknownTypeError{Type: line.Type}
}

// ToJournal returns a recorder that appends each event to a journal.
func ToJournal(w *journal.Writer) Recorder {
	return RecorderFunc(func(at time.Time, e Event) error {
		line, err := Encode(at, e)
		if err != nil {
			return err
		}
		return w.Append(line)
	})
}
