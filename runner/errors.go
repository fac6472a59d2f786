package runner

import (
	"fmt"
	"strings"
)

// DeniedError is the error for a namespace in which a run may not do what it does.
type DeniedError struct {
	Namespace string
	// Missing are the permissions, such as "create jobs.batch".
	Missing []string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("not permitted in namespace %s: %s", e.Namespace, strings.Join(e.Missing, ", "))
}
