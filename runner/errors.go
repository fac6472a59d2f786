package runner

import (
	"fmt"
	"strings"

	"github.com/squall-chaos/squall/mesh/objects"
)

// TakenError is the error for an object whose name is taken. Run is the run that
// the other object belongs to; empty if it is not known.
type TakenError struct {
	Object objects.Ref
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
	return objects.LiveRunHint(e.Run)
}

// DeniedError is the error for a namespace in which a run may not do what it does.
type DeniedError struct {
	Namespace string
	// Missing are the permissions, such as "create jobs.batch".
	Missing []string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("not permitted in namespace %s: %s", e.Namespace, strings.Join(e.Missing, ", "))
}
