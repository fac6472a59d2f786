// Package lifecycle_test tests how sandboxes with sidecars begin and end.
package lifecycle_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		fmt.Println("skipped: sidecars need root; with CI set this is a failure")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Several sandboxes run at the same time, for they share neither a network nor a
// port. One ends by its command, one by SIGKILL, and one because a part of it
// ends. None leaves anything behind.
func TestThreeAtOnce(t *testing.T) {
	var sandboxes [3]*testbed.Sandbox
	var errs [3]error
	var starting sync.WaitGroup
	for i := range sandboxes {
		starting.Go(func() { sandboxes[i], errs[i] = testbed.UpSidecars("--no-shop") })
	}
	starting.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		for i, s := range sandboxes {
			if errs[i] == nil {
				err = errors.Join(err, s.Down())
			}
		}
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range sandboxes {
		env, err := s.Env()
		if err != nil {
			t.Error(err)
		}
		for _, variable := range env {
			if strings.HasPrefix(variable, "SQUALL_PROMETHEUS=") {
				if seen[variable] {
					t.Errorf("two sandboxes have %s", variable)
				}
				seen[variable] = true
			}
		}
	}
	stopped, killed, crashed := sandboxes[0], sandboxes[1], sandboxes[2]
	out, err := exec.CommandContext(t.Context(), filepath.Join(stopped.Bin, "sandbox"), "up", "--dir", stopped.Dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a sandbox is running in "+stopped.Dir+" already") {
		t.Errorf("two sandboxes in one directory: %v: %s", err, out)
	}
	if _, err := stopped.Exec(t.Context(), "shop/nothing", "true"); err == nil || !strings.Contains(err.Error(), "no such pod") {
		t.Errorf("a command in a pod that does not exist: %v", err)
	}
	if err := killed.Kill(); err != nil {
		t.Errorf("after SIGKILL: %v", err)
	}
	if err := crash(crashed); err != nil {
		t.Errorf("after the end of a part: %v", err)
	}
	// The others have not noticed.
	if out, err := stopped.Exec(t.Context(), "node", "ip", "address", "show", "pods"); err != nil || !strings.Contains(out, "10.77.0.1") {
		t.Errorf("network of the node: %v: %s", err, out)
	}
	if err := stopped.Down(); err != nil {
		t.Errorf("after sandbox down: %v", err)
	}
}

// unprivilegedUser is the user and group without any rights.
const unprivilegedUser = 65534

// A user other than root needs subordinate ids. Without them up prints what to do;
// with them it starts, works, and leaves nothing behind.
func TestUnprivileged(t *testing.T) {
	s, err := testbed.UpSidecarsAs(unprivilegedUser, "--no-shop")
	if ids, _ := os.ReadFile("/etc/subuid"); !strings.Contains(string(ids), "nobody:") {
		if err == nil {
			t.Errorf("a sandbox without subordinate ids: %v", s.Down())
		}
		out, err := unprivileged(t, "up", "--dir", t.TempDir())
		if err == nil || !strings.Contains(out, "sidecars need root, or a user namespace with subordinate ids: ") || !strings.Contains(out, "or use --proxyless") {
			t.Errorf("without subordinate ids: %v: %s", err, out)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := unprivileged(t, "exec", "--dir", s.Dir, "node", "--", "ip", "address", "show", "pods"); err != nil || !strings.Contains(out, "10.77.0.1") {
		t.Errorf("network of the node: %v: %s", err, out)
	}
	if err := s.Kill(); err != nil {
		t.Errorf("after SIGKILL: %v", err)
	}
}

// unprivileged runs a command of the sandbox as the unprivileged user.
func unprivileged(t *testing.T, args ...string) (string, error) {
	t.Helper()
	bin, err := testbed.BinDir("sandbox")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "sandbox"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivilegedUser, Gid: unprivilegedUser}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// crash kills a part of a sandbox, which must end then.
func crash(s *testbed.Sandbox) error {
	pids, err := s.Pids("sandbox-controlplane")
	if err != nil || len(pids) == 0 {
		return errors.Join(err, errors.New("no process of the control plane"))
	}
	if err := syscall.Kill(pids[len(pids)-1], syscall.SIGKILL); err != nil {
		return err
	}
	exit, err := s.Wait()
	if exit == nil {
		err = errors.Join(err, errors.New("the sandbox has ended with success"))
	}
	return err
}
