package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/squall-chaos/squall/runner/event"
)

// jsonLines prints events as the journal has them, one per line.
type jsonLines struct{ out io.Writer }

func (j jsonLines) paint(h happening) {
	if h.event == nil {
		return // not in a journal
	}
	line, err := event.Encode(h.at, h.event)
	if err != nil {
		return // the journal reports it
	}
	if encoded, err := json.Marshal(line); err == nil {
		fmt.Fprintf(j.out, "%s\n", encoded)
	}
}

func (jsonLines) every() time.Duration { return 0 }
func (jsonLines) refresh(time.Time)    {}
func (jsonLines) finish()              {}
