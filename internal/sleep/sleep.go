// Package sleep waits as long as somebody still wants it.
package sleep

import (
	"context"
	"time"
)

// For waits for d, and reports whether ctx goes on: at once when it has ended
// already, and true at once when there is nothing to wait for.
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
