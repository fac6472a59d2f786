// Package removal deletes the objects of runs, in the order in which that is safe.
package removal

import (
	"context"
	"time"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh/objects"
)

// Deleter deletes the objects of a run.
type Deleter interface {
	// Delete deletes an object of a run, and returns nil if it no longer exists. For a
	// reference without a UID it deletes the object of that name only if it belongs
	// to the run.
	Delete(ctx context.Context, object objects.Ref, run string) error
}

// The pauses between attempts to delete objects.
const (
	FirstPause   = 100 * time.Millisecond
	LongestPause = 5 * time.Second
)

// Deletion is the result of an attempt to delete an object.
type Deletion struct {
	Object objects.Ref
	// Error is empty when the object is gone.
	Error string
}

// Delete tries to delete each object once, in the given order: the
// VirtualServices of a run, its ServiceEntries and DestinationRules, its Jobs. It
// returns the failures. It keeps the destinations while a VirtualService is left, and
// for settle afterwards: until then proxies may route to them.
func Delete(ctx context.Context, from Deleter, run string, all []objects.Ref, settle time.Duration) []Deletion {
	var failed []Deletion
	routed, settled := false, true
	for _, ref := range all {
		if objects.IsDestination(ref.Kind) && routed {
			failed = append(failed, Deletion{Object: ref, Error: "kept until the VirtualService is deleted"})
			continue
		}
		if objects.IsDestination(ref.Kind) && !settled {
			settled = true
			sleep.For(ctx, settle)
		}
		err := from.Delete(ctx, ref, run)
		if err != nil {
			failed = append(failed, Deletion{Object: ref, Error: err.Error()})
		}
		if ref.Kind == objects.KindVirtualService {
			routed, settled = routed || err != nil, false
		}
	}
	return failed
}
