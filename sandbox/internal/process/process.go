// Package process runs the child processes of a sandbox, so that none outlives
// it: they are stopped in reverse order, and the kernel kills them when the
// sandbox is killed.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// stopTimeout is how long a child may take to stop before it is killed.
const stopTimeout = 8 * time.Second

// Group is the child processes of one sandbox.
type Group struct {
	dir  layout.Dir
	tied bool
	died chan error

	mu       sync.Mutex
	children []*Child
}

// Program is what a child runs.
type Program struct {
	// Name names the child in errors, and its log.
	Name string
	Path string
	Args []string
	// Env is the whole environment.
	Env []string
	// Dir is the working directory; empty for the sandbox's directory.
	Dir string
	// User is the user and group that the child runs as; 0 for the sandbox's.
	User uint32
	// Within, if set, calls the function that starts the child in a network
	// namespace.
	Within func(func() error) error
	// Short says that the child may end, as long as it succeeds.
	Short bool
}

// Child is a child process.
type Child struct {
	name    string
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process has ended
	err     error         // valid once done is closed
	stopped bool          // guarded by the group's mutex
}

// NewGroup returns a group without children, whose children write their logs to
// the sandbox's directory.
//
// In a tied group the kernel kills the children when the thread that started
// them ends; Start must then be called from a goroutine that is locked to the
// main thread. A group that is not tied relies on its process namespace.
func NewGroup(dir layout.Dir, tied bool) *Group {
	return &Group{dir: dir, tied: tied, died: make(chan error, 1)}
}

// Start starts a program.
func (g *Group) Start(p Program) (*Child, error) {
	path, args := p.Path, p.Args
	if p.User != 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", p.Name, err)
		}
		path = self
		args = append([]string{UserCommand, strconv.FormatUint(uint64(p.User), 10), p.Path}, p.Args...)
	}
	log, err := os.Create(g.dir.Log(p.Name))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer log.Close()                  //nolint:errcheck // the child has its own descriptor
	cmd := exec.Command(path, args...) //nolint:gosec,noctx // our own binaries; they are stopped in order, not by a context
	cmd.Env, cmd.Dir = p.Env, string(g.dir)
	cmd.Stdout, cmd.Stderr = log, log
	if p.Dir != "" {
		cmd.Dir = p.Dir
	}
	// A Ctrl-C must reach the sandbox alone, which then stops in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if g.tied {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	start := cmd.Start
	if p.Within != nil {
		start = func() error { return p.Within(cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	c := &Child{name: p.Name, cmd: cmd, done: make(chan struct{})}
	g.mu.Lock()
	g.children = append(g.children, c)
	g.mu.Unlock()
	go g.wait(c, p.Short)
	return c, nil
}

// wait waits until a child ends, and reports its end unless it was expected.
func (g *Group) wait(c *Child, short bool) {
	c.err = c.cmd.Wait()
	close(c.done)
	g.mu.Lock()
	expected := c.stopped || short && c.err == nil
	g.children = slices.DeleteFunc(g.children, func(other *Child) bool { return other == c })
	g.mu.Unlock()
	if expected {
		return
	}
	select {
	case g.died <- fmt.Errorf("%s has ended (%s); its log: %s", c.name, cause(c.err), g.dir.Log(c.name)):
	default: // only the first death is news
	}
}

func cause(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// Died returns a channel with the first child that has ended by itself.
func (g *Group) Died() <-chan error { return g.died }

// Stop stops all children, newest first, and waits for each.
func (g *Group) Stop() error {
	g.mu.Lock()
	children := slices.Clone(g.children)
	g.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(children) {
		g.expect(c)
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// Kill kills one child and waits for its end.
func (g *Group) Kill(c *Child) error {
	g.expect(c)
	return c.kill()
}

// expect notes that the end of a child is not news.
func (g *Group) expect(c *Child) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.stopped = true
}

// Wait waits until the child has ended, and returns an error unless it has
// succeeded.
func (c *Child) Wait() error {
	<-c.done
	return c.err
}

func (c *Child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(stopTimeout):
	}
	return c.kill()
}

// kill kills the child and what it has started.
func (c *Child) kill() error {
	if err := syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	<-c.done
	return nil
}
