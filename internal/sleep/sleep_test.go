package sleep

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	for _, test := range []struct {
		name    string
		asked   time.Duration
		endsAt  time.Duration // when ctx is done; negative before the call
		goesOn  bool
		waitsTo time.Duration
	}{
		{"to the end", time.Second, time.Minute, true, time.Second},
		{"cut short", time.Minute, time.Second, false, time.Second},
		{"ended before", time.Minute, -1, false, 0},
		{"nothing to wait for", 0, time.Minute, true, 0},
		{"in the past", -time.Second, time.Minute, true, 0},
		{"nothing to wait for, ended before", 0, -1, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.endsAt)
				defer cancel()
				began := time.Now()
				if goesOn := For(ctx, test.asked); goesOn != test.goesOn || time.Since(began) != test.waitsTo {
					t.Errorf("%t after %s", goesOn, time.Since(began))
				}
			})
		})
	}
}
