package envoy_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// A fault whose objects are deleted stays in the proxies while istiod does not push.
// The run says so and fails, and the next one is refused until the calls are clean.
func TestIstiodDoesNotPush(t *testing.T) { // not parallel: it freezes istiod
	reserve(t, ratingsTarget)
	e := experiment{name: "no-push", duration: "12s", probe: "{name: always, query: vector(1), min: 1}", more: "effect: {minRequests: 10}\n  recovery: {within: 5s}"}
	istiod := pidOf(t, "istiod")
	s := startFile(t, e.write(t))
	s.hits(reviews, ratings, "555")
	signal(t, istiod, syscall.SIGSTOP)
	t.Cleanup(func() { signal(t, istiod, syscall.SIGCONT) })
	s.exits(5)
	if text := s.stdout.String(); !strings.Contains(text, "deleted, but proxies still inject: ") {
		t.Errorf("stdout %q", text)
	}
	refused := startFile(t, e.write(t))
	refused.exits(3)
	if text := refused.stdout.String(); !strings.Contains(text, "the mesh still injects a fault of an earlier run") {
		t.Errorf("stdout %q", text)
	}
	signal(t, istiod, syscall.SIGCONT)
	isClean(t, reviews, ratings)
	held := startFile(t, e.write(t))
	held.exits(0)
	if text := held.stdout.String(); !strings.Contains(text, "clean after ") {
		t.Errorf("stdout %q", text)
	}
}

// pidOf returns the process of a part of the control plane.
func pidOf(t *testing.T, part string) *os.Process {
	t.Helper()
	if *attached != "" {
		t.Skip("the test knows only the processes of a sandbox that it has started")
	}
	pid, err := mesh.Part(part)
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	return process
}

func signal(t *testing.T, process *os.Process, s os.Signal) {
	t.Helper()
	if err := process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
