package removal_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/removal"
)

// standing is a cluster with the objects of runs. It logs the calls.
type standing struct {
	mu   sync.Mutex
	runs []objects.ActiveRun
	done []string
	// refuse returns the error of a deletion; nil for none.
	refuse func(objects.Ref) error
	// blind is the error of a listing.
	blind error
}

var errRefused = errors.New("refused")

func (s *standing) Annotate(_ context.Context, ref objects.Ref, annotations map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, "tell "+ref.Name+" of "+annotations[objects.StoppedByAnnotation])
	return errRefused // which must not matter
}

func (s *standing) Delete(_ context.Context, ref objects.Ref, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if err := s.refuse(ref); err != nil {
			return err
		}
	}
	for i := range s.runs {
		s.runs[i].Objects = slices.DeleteFunc(slices.Clone(s.runs[i].Objects), func(have objects.Ref) bool { return have == ref })
	}
	s.done = append(s.done, "delete "+ref.Name)
	return nil
}

func (s *standing) list(context.Context) ([]objects.ActiveRun, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.runs), func(run objects.ActiveRun) bool { return len(run.Objects) == 0 }), s.blind
}

func blackholeRun(id string) objects.ActiveRun {
	ref := func(kind, name string) objects.Ref {
		return objects.Ref{Kind: kind, Namespace: "shop", Name: name + "-" + id}
	}
	return objects.ActiveRun{ID: id, Objects: []objects.Ref{ref("VirtualService", "vs"), ref("ServiceEntry", "se"), ref("Job", "job")}}
}

// pull ends runs with the kill switch, within 30 seconds.
func (s *standing) pull(t *testing.T, runs ...objects.ActiveRun) (left []objects.ActiveRun, reported []removal.Deletion, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	left, err = removal.KillSwitch{
		Cluster: s, List: s.list, Owner: "ann", Settle: time.Second,
		Report: func(_ string, done removal.Deletion) { reported = append(reported, done) },
	}.Pull(ctx, slices.Clone(runs))
	return left, reported, err
}

func TestKillSwitchRemovesRunsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &standing{runs: []objects.ActiveRun{blackholeRun("a"), blackholeRun("b")}}
		began := time.Now()
		left, reported, err := s.pull(t, s.runs[0])
		if err != nil || len(left) > 0 || len(reported) != 3 {
			t.Errorf("left %v, reported %v, error %v", left, reported, err)
		}
		want := []string{"tell job-a of ann", "delete vs-a", "delete se-a", "delete job-a"}
		if diff := cmp.Diff(want, s.done); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("the proxies were given %s", took)
		}
	})
}

func TestKillSwitchGoesOnPastErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &standing{runs: []objects.ActiveRun{blackholeRun("a"), blackholeRun("b")}}
		attempts := 0
		s.refuse = func(ref objects.Ref) error {
			if ref.Name == "vs-a" {
				if attempts++; attempts < 4 {
					return errRefused
				}
			}
			return nil
		}
		left, reported, err := s.pull(t, s.runs...)
		if err != nil || len(left) > 0 {
			t.Errorf("left %v, error %v", left, err)
		}
		if i := slices.IndexFunc(reported, func(d removal.Deletion) bool { return strings.Contains(d.Error, "kept until") }); i < 0 || reported[i].Object.Name != "se-a" {
			t.Errorf("reported %v", reported)
		}
		if slices.Index(s.done, "delete vs-a") > slices.Index(s.done, "delete se-a") {
			t.Errorf("the helper went before the VirtualService: %v", s.done)
		}
	})
}

func TestKillSwitchSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &standing{runs: []objects.ActiveRun{blackholeRun("a")}, refuse: func(ref objects.Ref) error {
			if ref.Kind == "VirtualService" {
				return errRefused
			}
			return nil
		}}
		left, _, err := s.pull(t, s.runs...)
		if err != nil || len(left) != 1 || len(left[0].Objects) != 2 || left[0].Objects[0].Name != "vs-a" {
			t.Errorf("left %v, error %v", left, err)
		}
	})
}

// A deleted object is not known to be gone while the cluster does not answer.
func TestKillSwitchLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &standing{runs: []objects.ActiveRun{blackholeRun("a")}, blind: errRefused}
		left, _, err := s.pull(t, s.runs...)
		if !errors.Is(err, errRefused) || len(left) != 1 || len(left[0].Objects) != 3 {
			t.Errorf("left %v, error %v", left, err)
		}
	})
}
