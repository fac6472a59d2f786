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
}

// Remove deletes the objects of runs until none is left or ctx ends. It calls report
// with the result for each object, but not with the same result again. The error says
// that the remaining objects are unknown.
func (r Remover) Remove(ctx context.Context, runs []objects.ActiveRun, report func(run string, done removal.Deletion)) (left []objects.Ref, err error) {
	if len(runs) == 0 {
		return nil, nil
	}
	reported := map[removal.Deletion]bool{}
	failed := map[objects.Ref]bool{}
	killSwitch := removal.KillSwitch{
		Cluster: r.Objects,
		Owner:   r.Owner,
		Settle:  runner.DefaultTiming().Settle,
		List: func(ctx context.Context) ([]objects.ActiveRun, error) {
			listing, err := r.Lister.List(ctx)
			return listing.Runs, err
		},
		Report: func(run string, done removal.Deletion) {
			ended := done.Error != "" && ctx.Err() != nil && failed[done.Object] // by ctx, which is not the reason
			if !reported[done] && !ended {
				report(run, done)
			}
			reported[done] = true
			failed[done.Object] = failed[done.Object] || done.Error != ""
		},
	}
	remaining, err := killSwitch.Pull(ctx, runs)
	for _, run := range remaining {
		left = append(left, run.Objects...)
	}
	return left, err
}
