// Package poll waits for a condition that nothing reports.
package poll

import (
	"context"
	"errors"
	"time"
)

// interval is the time between two attempts.
const interval = 50 * time.Millisecond

// Until tries until the attempt succeeds or ctx ends. The error has the cause of the
// end and the last error of the attempt.
func Until(ctx context.Context, attempt func() error) error {
	for {
		err := attempt()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(interval):
		}
	}
}
