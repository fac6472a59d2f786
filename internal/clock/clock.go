// Package clock says how far the clocks of two machines may be trusted.
package clock

import "time"

// Skew is how far the clocks of two machines may differ. A moment that another
// machine has written down is compared with this machine's clock only with this
// tolerance.
const Skew = 10 * time.Minute

// IsAhead reports whether a time lies further in the future than Skew, so that a
// wrong clock must have written it down.
func IsAhead(t, now time.Time) bool { return t.Sub(now) > Skew }
