package prom_test

import (
	"testing"

	"go.uber.org/goleak"
)

// The tests fail if a goroutine is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
