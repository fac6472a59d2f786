// Package process runs the sandbox's child processes, so that none outlives
// it: they are stopped in reverse order, and the kernel kills them when the
// sandbox itself is killed.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// stopTimeout is how long a child may take to stop before it is killed.
const stopTimeout = 8 * time.Second

// Group is the children of one sandbox. Its methods must be called from a
// goroutine that is locked to the main thread: the kernel ties a child's life
// to the thread that started it.
type Group struct {
	dir      layout.Dir
	children []*child
	died     chan error
}

type child struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// NewGroup makes an empty group whose children log to the sandbox's folder.
func NewGroup(dir layout.Dir) *Group {
	return &Group{dir: dir, died: make(chan error, 1)}
}

// Start starts a program. Its environment is exactly env, and the folder is
// its working directory.
func (g *Group) Start(name string, env []string, program string, args ...string) error {
	log, err := os.Create(g.dir.Log(name))
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()                     //nolint:errcheck // the child has its own descriptor
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // our own binaries; they are stopped in order, not by a context
	cmd.Env = env
	cmd.Dir = string(g.dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// A Ctrl-C must reach the sandbox alone, which then stops in order.
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{name: name, cmd: cmd, done: make(chan struct{})}
	g.children = append(g.children, c)
	go func() {
		err := cmd.Wait()
		close(c.done)
		select {
		case g.died <- fmt.Errorf("%s has ended (%s); its log: %s", name, cause(err), g.dir.Log(name)):
		default: // only the first death is news
		}
	}()
	return nil
}

func cause(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// Died gives the first child that has ended.
func (g *Group) Died() <-chan error { return g.died }

// Stop stops all children, newest first, and waits for each.
func (g *Group) Stop() error {
	var errs []error
	for _, c := range slices.Backward(g.children) {
		errs = append(errs, c.stop())
	}
	g.children = nil
	return errors.Join(errs...)
}

func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(stopTimeout):
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	<-c.done
	return nil
}
