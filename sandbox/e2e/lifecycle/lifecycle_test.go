// Package lifecycle_test tests how a sandbox begins and ends. It is a separate package
// because it needs the addresses of other sandboxes.
package lifecycle_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

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
