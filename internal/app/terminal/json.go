package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// jsonLines prints the journal's events, one a line.
type jsonLines struct{ out io.Writer }

func (j jsonLines) paint(h happening) {
	if encoded, err := json.Marshal(h.event); err == nil { // it was encoded for the journal already
		fmt.Fprintf(j.out, "%s\n", encoded)
	}
}

func (jsonLines) every() time.Duration { return 0 }
func (jsonLines) refresh(time.Time)    {}
func (jsonLines) finish()              {}
