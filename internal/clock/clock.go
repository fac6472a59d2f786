// Package clock says how far the clocks of two machines may be trusted.
package clock

import "time"

// Skew is how far the clocks of two machines may differ. A moment that another
// machine has written down is compared with this machine's clock only with this
// tolerance.
const Skew = 10 * time.Minute
