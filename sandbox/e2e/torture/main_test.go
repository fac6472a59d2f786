// Package torture_test kills runs of the squall binary at every moment, breaks the
// servers and the disk that they need, and interrupts them. In all cases no fault
// outlives its run by more than 20 s, no object of the run is left, and no object of
// others is written.
package torture_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/squall-chaos/squall/sandbox/internal/audit"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

var (
	full  = flag.Bool("full", false, "everything, which takes a quarter of an hour; by default a sample of it")
	seed  = flag.Uint64("seed", 1, "for the random moments")
	only  = flag.String("only", "", "only kills and failing calls whose name contains this, such as \"create jobs\"")
	slots = flag.Int("slots", 20*runtime.NumCPU(), "how many runs go on at the same time")
)

// bed is the one sandbox of all tests.
var bed *world

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	// The tests wait more than they work, so they need not be as few as the
	// processors.
	if err := flag.Set("test.parallel", "16"); err != nil {
		return 1, err
	}
	sandbox, err := testbed.Up("--no-shop")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, sandbox.Down()) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	bed, err = newWorld(ctx, sandbox, *slots)
	if err != nil {
		return 1, err
	}
	defer bed.close()
	code = m.Run()
	summary, err := audit.Check(layout.Dir(sandbox.Dir).AuditLog())
	fmt.Printf("squall has made %d objects, changed them %d times and asked %d times to delete them\n", summary.Creates, summary.Patches, summary.Deletes)
	return code, err
}
