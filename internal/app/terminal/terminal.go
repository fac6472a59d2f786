// Package terminal shows the progress of a run, as a live view on a terminal and line
// by line anywhere else, and writes the log of squall serve. A stalled reader never
// delays a run.
package terminal

// Format is the format of progress and logs.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json" // one object a line; progress has the events of the journal
)
