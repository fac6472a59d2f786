// Package clock has the tolerance for times of other machines.
package clock

import "time"

// Skew is the tolerated difference between the clocks of two machines. Code that
// compares a time from another machine with the clock of this one allows for it.
const Skew = 10 * time.Minute

// IsAhead reports whether a time lies further in the future than Skew: then the
// clock that it comes from was wrong.
func IsAhead(t, now time.Time) bool { return t.Sub(now) > Skew }
