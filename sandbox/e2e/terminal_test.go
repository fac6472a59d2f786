package e2e_test

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// On a terminal a run has a live view, and Ctrl-C rolls back.
func TestLiveView(t *testing.T) {
	s := prepare(t, "run", spec{probes: "[{name: the page is there, query: vector(1), min: 1}]", more: "effect: {minRequests: 1}"}.write(t))
	s.cmd.Env = append(s.cmd.Env, "TERM=xterm-256color", "CI=", "NO_COLOR=")
	terminal, squallEnd, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(terminal, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = squallEnd, squallEnd, squallEnd
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s.start()
	if err := squallEnd.Close(); err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := io.Copy(&s.stderr, terminal)
		read <- err
	}()
	for _, want := range []string{"observe   █", "left, Ctrl-C rolls back", "the page is there", "▅▅", "requests hit"} {
		s.says(want)
	}
	if _, err := terminal.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	s.exits(4)
	// The end of a terminal without other users is EIO.
	if err := <-read; err != nil && !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	_, end, _ := strings.Cut(s.stderr.String(), "rollback: interrupt signal received")
	_, summary, ok := strings.Cut(end, "test: inconclusive (interrupted)")
	if !ok || strings.Contains(summary, "\x1b") || strings.Contains(summary, "Ctrl-C") {
		t.Errorf("the picture is not gone before the summary: %q", end)
	}
}
