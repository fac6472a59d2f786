package scheduler

import (
	"time"

	"github.com/squall-chaos/squall/experiments"
)

// A Decision is what happens to a start that is due: Start, Skip or Wait.
type Decision interface{ decision() }

// Start is a run that begins now. It holds its Slot until Release.
type Start struct {
	Experiment experiments.Experiment
	// Nominal identifies the start: it is the time that the schedule names,
	// without jitter.
	Nominal time.Time
	// Lag is the time since the start was due.
	Lag       time.Duration
	Slot      *Slot
	Overtaken Overtaken
}

// Skip is a start that will not be made.
type Skip struct {
	Experiment string
	Nominal    time.Time
	// Why is classified by ReasonOf.
	Why       error
	Overtaken Overtaken
}

// Wait is a start that stays due until its deadline.
type Wait struct {
	Experiment string
	Why        error
	// Replaces reports whether the live runs of the experiment must be ended to
	// make room.
	Replaces bool
}

// Overtaken counts the earlier starts of an experiment that were due and will not
// be made, because a later one is due.
type Overtaken struct {
	Count  int
	Reason Reason
}

func (Start) decision() {}
func (Skip) decision()  {}
func (Wait) decision()  {}
