package heartbeat

import (
	"errors"
	"fmt"
	"time"

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

// gone returns the error for objects of a run that are gone, with its last heartbeat some
// time ago. A user may have deleted objects that have expired, so these count as ended
// from outside too.
func gone(silent, deadline time.Duration) *EndError {
	if silent < deadline {
		return deletedFromOutside()
	}
	err := fmt.Errorf("the objects of the run are gone, and its last heartbeat was %s ago: they have expired, because this process was suspended or did not reach the API server", silent.Round(time.Second))
	return &EndError{Status: event.StatusInterrupted, Outside: true, Err: err}
}

func deletedFromOutside() *EndError {
	return &EndError{Status: event.StatusInterrupted, Outside: true, Err: errors.New("the objects of the run were deleted from outside")}
}
