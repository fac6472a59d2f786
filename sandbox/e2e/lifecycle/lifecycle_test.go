// Package lifecycle_test tests how a sandbox begins and ends. It is a separate package
// because it needs the addresses of other sandboxes.
package lifecycle_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

// ownerVariable makes this program start a sandbox and wait for its end.
const ownerVariable = "SANDBOX_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerVariable) == "" {
		os.Exit(m.Run())
	}
	s, err := testbed.Up("--no-shop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.Dir)
	_, _ = s.Wait() // it ends with this process
}

// A sandbox ends with the test that has started it, however that ends.
func TestEndsWithItsOwner(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.CommandContext(t.Context(), self)
	owner.Env, owner.Stderr = append(os.Environ(), ownerVariable+"=1"), os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	dir, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %v", err, owner.Wait())
	}
	dir = strings.TrimSpace(dir)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := owner.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // it was ended by the signal
	s, err := testbed.Attach(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Gone(30 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestLifecycle(t *testing.T) {
	s, err := testbed.Up("--no-shop")
	if err != nil {
		t.Fatal(err)
	}
	fails := func(want string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), filepath.Join(s.Bin, "sandbox"), args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("sandbox %v: error %v, and %q does not say %q", args, err, out, want)
		}
	}
	fails("a sandbox is running in "+s.Dir+" already", "up", "--dir", s.Dir)
	fails("127.0.0.1:16443, which kube-apiserver needs, is taken by another program", "up", "--proxyless", "--dir", t.TempDir())
	fails("is not NAMESPACE/WORKLOAD", "call", "--from", "shop", "--to", "ratings.prod.svc.cluster.local:9080")
	fails("--to is needed", "call", "--from", "shop/reviews-v1")
	fails("neither sidecar nor router", "routes", "--as", "shop/reviews-v1", "--kind", "waypoint")

	out, err := exec.CommandContext(t.Context(), filepath.Join(s.Bin, "sandbox"), "down", "--dir", t.TempDir()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "none is running") {
		t.Errorf("down where none is running: %v: %s", err, out)
	}
	// Everything dies with the parent, however it dies.
	if err := s.Kill(); err != nil {
		t.Error(err)
	}
}
