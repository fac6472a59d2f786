// Package terminal shows what goes on: the progress of a run, as a live view on a
// terminal and line by line anywhere else, and the log of squall serve. A reader who
// does not read never delays a run.
package terminal

// Format is how progress and logs are written.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json" // one object a line; progress has the events of the journal
)
