package web

import (
	"testing"

	"go.uber.org/goleak"
)

// No test leaves a goroutine behind, except for net/http, which waits half a
// second before it closes the connection of a malformed request.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}
