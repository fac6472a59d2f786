package objects

import (
	"errors"
	"fmt"
	"strings"
)

// The errors of reads and writes of objects, alone or wrapped.
var (
	// ErrGone is the error for an object that no longer exists.
	ErrGone = errors.New("no longer exists")
	// ErrChanged is the error for an object that has changed since it was read.
	ErrChanged = errors.New("has changed")
	// ErrRejected is the error for a write that the cluster will never accept: it is
	// not permitted, or not valid.
	ErrRejected = errors.New("rejected by the cluster")
)

// KeptError is the error for an object that the cluster does not delete.
type KeptError struct {
	Object Ref
	// Finalizers are why, if the cluster has accepted the deletion.
	Finalizers []string
	// Err is why, if it has not.
	Err error
}

func (e *KeptError) Error() string {
	switch {
	case len(e.Finalizers) > 0:
		return fmt.Sprintf("%s is kept by finalizers: %s", e.Object, strings.Join(e.Finalizers, ", "))
	case e.Err != nil:
		return fmt.Sprintf("delete %s: %s", e.Object, e.Err)
	default:
		return fmt.Sprintf("%s is still there", e.Object)
	}
}

// Unwrap returns why the deletion was not accepted.
func (e *KeptError) Unwrap() error { return e.Err }

// TakenError is the error for an object whose name is taken. Run is the run that
// the other object belongs to; empty if it is not known.
type TakenError struct {
	Object Ref
	Run    string
}

func (e *TakenError) Error() string {
	if e.Run == "" {
		return fmt.Sprintf("%s already exists, and its run is not known", e.Object)
	}
	return fmt.Sprintf("run %s already disturbs the same calls, with %s", e.Run, e.Object)
}

// Hint returns the next step.
func (e *TakenError) Hint() string {
	if e.Run == "" {
		return fmt.Sprintf("inspect it: kubectl -n %s get %s %s -o yaml", e.Object.Namespace, strings.ToLower(e.Object.Kind), e.Object.Name)
	}
	return LiveRunHint(e.Run)
}
