package liveruns

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/removal"
)

// Choose returns the runs with one of the names, or all without names, and an error
// about the names of runs that are not live. With expired it returns only expired runs.
func (l Listing) Choose(names []string, expired bool) (chosen []objects.ActiveRun, err error) {
	unknown := slices.Clone(names)
	for _, run := range l.Runs {
		unknown = slices.DeleteFunc(unknown, func(name string) bool { return name == run.ID })
		if (len(names) == 0 || slices.Contains(names, run.ID)) && (run.Expired || !expired) {
			chosen = append(chosen, run)
		}
	}
	if len(unknown) == 0 {
		return chosen, nil
	}
	next := l.None(Live)
	if len(l.Runs) > 0 {
		var ids []string
		for _, run := range l.Runs {
			ids = append(ids, run.ID)
		}
		next = "live runs: " + strings.Join(ids, ", ")
	}
	return chosen, hint.With(fmt.Errorf("not live: %s", strings.Join(unknown, ", ")), next)
}

// Objects changes Squall's objects.
type Objects interface {
	removal.Deleter
	// Annotate adds annotations to an object.
	Annotate(ctx context.Context, object objects.Ref, annotations map[string]string) error
}

// Remover removes live runs.
type Remover struct {
	Lister  Lister
	Objects Objects
	// Owner is written to the objects before they are deleted.
	Owner string
	// Whole extends the runs to what they have in other namespaces.
	Whole bool
}

// Remove deletes the objects of runs until none is left or ctx ends. It calls report
// with the result for each object, but not with the same result again. The error says
// that the remaining objects are unknown.
func (r Remover) Remove(ctx context.Context, runs []objects.ActiveRun, report func(run string, done removal.Deletion)) (left []objects.Left, err error) {
	if len(runs) == 0 {
		return nil, nil
	}
	type result struct {
		object objects.Ref
		err    string
	}
	reported := map[result]bool{}
	failed := map[objects.Ref]removal.Deletion{}
	killSwitch := removal.KillSwitch{
		Cluster: r.Objects,
		Owner:   r.Owner,
		Whole:   r.Whole,
		Settle:  runner.DefaultTiming().Settle,
		List: func(ctx context.Context) ([]objects.ActiveRun, error) {
			listing, err := r.Lister.List(ctx)
			return listing.Runs, err
		},
		Report: func(run string, done removal.Deletion) {
			_, again := failed[done.Object]
			if done.Error != "" && ctx.Err() != nil && again {
				return // ended by ctx, which is not the reason
			}
			if now := (result{object: done.Object, err: done.Error}); !reported[now] {
				report(run, done)
				reported[now] = true
			}
			if done.Error != "" {
				failed[done.Object] = done
			}
		},
	}
	remaining, err := killSwitch.Pull(ctx, runs)
	for _, run := range remaining {
		for _, ref := range run.Objects {
			last := failed[ref]
			last.Object = ref
			left = append(left, last.Left())
		}
	}
	return left, err
}
