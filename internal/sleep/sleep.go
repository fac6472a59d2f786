// Package sleep waits until a time has passed or a context is done.
package sleep

import (
	"context"
	"time"
)

// For waits for d, and reports whether ctx is still active. It returns at once if
// ctx is done, or if d is not positive.
func For(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	if d <= 0 {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
