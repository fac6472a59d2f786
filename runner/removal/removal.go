// Package removal deletes the objects of runs, in the order in which that is safe, and
// takes the fault out of those that stay.
package removal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh/objects"
)

// Deleter deletes the objects of a run.
type Deleter interface {
	// Delete deletes an object of a run. The error wraps objects.ErrGone if there is no
	// such object: it was deleted before, or another object has its name. For a
	// reference without a UID it deletes the object of that name only if it belongs
	// to the run. An error of type *objects.KeptError means that the cluster has
	// answered and keeps the object.
	Delete(ctx context.Context, object objects.Ref, run string) error
	// Withdraw updates a VirtualService of a run so that it applies to no calls. Its
	// callers then use the routes that they would use without it.
	Withdraw(ctx context.Context, object objects.Ref, run string) error
}

// The pauses between attempts to delete objects.
const (
	FirstPause   = 100 * time.Millisecond
	LongestPause = 5 * time.Second
)

// atOnce is the maximum number of requests at a time.
const atOnce = 16

// Item is an object of a run.
type Item struct {
	Run    string
	Object objects.Ref
}

// Of returns the objects of one run as items.
func Of(run string, all []objects.Ref) []Item {
	items := make([]Item, len(all))
	for i, ref := range all {
		items[i] = Item{Run: run, Object: ref}
	}
	return items
}

// Deletion is the result of an attempt to delete an object.
type Deletion struct {
	Object objects.Ref
	// Error is empty when the object is gone.
	Error string
	// Finalizers keep the object although the cluster has accepted its deletion.
	Finalizers []string
	// Withdrawn reports that the object applies to no calls any longer.
	Withdrawn bool
	// Missed reports that the object was gone before the attempt.
	Missed bool
	// At is when the attempt was done.
	At time.Time
}

// Left returns the object that could not be deleted.
func (d Deletion) Left() objects.Left {
	return objects.Left{Ref: d.Object, Reason: d.Error, Finalizers: d.Finalizers, Withdrawn: d.Withdrawn}
}

// Delete tries to delete each object once. The order is the same for any number of
// runs: all VirtualServices, which carry the faults; after a pause of settle, in which
// proxies receive the change, the ServiceEntries that they have routed to, with their
// DestinationRules; then the Jobs that own all of them. So no run waits for the helpers
// of another one.
//
// It takes the fault out of a VirtualService that the cluster keeps. It keeps the
// destinations of a run while proxies may route to them. It calls report with each
// result, by one goroutine at a time, and returns the failures in the order of all.
func Delete(ctx context.Context, from Deleter, all []Item, settle time.Duration, report func(Item, Deletion)) []Deletion {
	r := &round{from: from, all: all, results: make([]Deletion, len(all)), routed: map[objects.Key]bool{}, report: report}
	r.each(isFault, func(item Item) Deletion { return r.end(ctx, item) })
	if r.has(isFault) && r.has(objects.IsDestination) {
		sleep.For(ctx, settle)
	}
	r.each(objects.IsDestination, func(item Item) Deletion {
		if r.isRouted(item) {
			return Deletion{Object: item.Object, Error: "kept until the VirtualService is deleted", At: time.Now()}
		}
		done, _ := r.delete(ctx, item)
		return done
	})
	r.each(isOwner, func(item Item) Deletion {
		done, _ := r.delete(ctx, item)
		return done
	})
	return slices.DeleteFunc(r.results, func(d Deletion) bool { return d.Error == "" })
}

// round is one call of Delete.
type round struct {
	from    Deleter
	all     []Item
	results []Deletion

	mu sync.Mutex
	// routed are the runs with a VirtualService that may still route to its destinations.
	routed map[objects.Key]bool
	report func(Item, Deletion)
}

func isFault(kind string) bool { return kind == objects.KindVirtualService }

// isOwner reports whether objects of a kind are deleted last.
func isOwner(kind string) bool { return !isFault(kind) && !objects.IsDestination(kind) }

// has reports whether any item is of some kinds.
func (r *round) has(kinds func(string) bool) bool {
	return slices.ContainsFunc(r.all, func(item Item) bool { return kinds(item.Object.Kind) })
}

// each handles the items of some kinds, a few at a time, and returns when all are done.
func (r *round) each(kinds func(string) bool, handle func(Item) Deletion) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, item := range r.all {
		if !kinds(item.Object.Kind) {
			continue
		}
		group.Go(func() error {
			done := handle(item)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.results[i] = done
			r.report(item, done)
			return nil
		})
	}
	_ = group.Wait() // the results have the errors
}

// delete deletes an object.
func (r *round) delete(ctx context.Context, item Item) (done Deletion, kept bool) {
	done = Deletion{Object: item.Object}
	err := r.from.Delete(ctx, item.Object, item.Run)
	done.At, done.Missed = time.Now(), errors.Is(err, objects.ErrGone)
	if err != nil && !done.Missed {
		done.Error = err.Error()
	}
	why, kept := errors.AsType[*objects.KeptError](err)
	if kept {
		done.Finalizers = why.Finalizers
	}
	return done, kept
}

// end deletes a VirtualService, or takes the fault out of it.
func (r *round) end(ctx context.Context, item Item) Deletion {
	done, kept := r.delete(ctx, item)
	if kept {
		err := r.from.Withdraw(ctx, item.Object, item.Run)
		done.Withdrawn = err == nil
		if err != nil {
			done.Error += "; its fault could not be taken out: " + err.Error()
		}
	}
	if done.Error != "" && !done.Withdrawn {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.routed[keyOf(item)] = true
	}
	return done
}

func (r *round) isRouted(item Item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.routed[keyOf(item)]
}

func keyOf(item Item) objects.Key {
	return objects.Key{Run: item.Run, Namespace: item.Object.Namespace}
}
