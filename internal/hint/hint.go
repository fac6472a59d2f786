// Package hint attaches the next step of the user to an error.
package hint

import "errors"

// hinted is an error with a hint.
type hinted struct {
	error
	hint string
}

// Unwrap returns the error without the hint.
func (e *hinted) Unwrap() error { return e.error }

// Hint returns the hint.
func (e *hinted) Hint() string { return e.hint }

// With returns err with a hint: what the user can do about it. The text of the
// error does not change. Of returns the hint.
func With(err error, hint string) error { return &hinted{error: err, hint: hint} }

// hinter is an error that has a hint, of this package or another one.
type hinter interface {
	error
	Hint() string
}

// Of returns the hint of the first error in the tree of err that has a method
// Hint() string, and an empty string if there is none.
func Of(err error) string {
	if with, ok := errors.AsType[hinter](err); ok {
		return with.Hint()
	}
	return ""
}
