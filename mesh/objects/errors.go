package objects

import "errors"

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
