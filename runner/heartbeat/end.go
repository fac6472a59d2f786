package heartbeat

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
)

// EndError is the error with which a run has to end: its reason, with the hint for the
// result, and the status of the run.
type EndError struct {
	Status event.Status
	// Outside is as in event.Result.
	Outside bool
	Err     error
}

func (e *EndError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *EndError) Unwrap() error { return e.Err }

// endedBy returns the error for a heartbeat Job that says that a user has ended the
// run, or that is being deleted; nil for any other.
func endedBy(job *unstructured.Unstructured) *EndError {
	if by := job.GetAnnotations()[objects.StoppedByAnnotation]; by != "" {
		return &EndError{Status: event.StatusInterrupted, Outside: true, Err: fmt.Errorf("rolled back by %s", by)}
	}
	if job.GetDeletionTimestamp() != nil {
		return deletedFromOutside()
	}
	return nil
}

func deletedFromOutside() *EndError {
	return &EndError{Status: event.StatusInterrupted, Outside: true, Err: errors.New("the objects of the run were deleted from outside")}
}
