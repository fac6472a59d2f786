// Package testbed starts a sandbox for tests, and makes sure that it leaves
// nothing behind: no process and no folder.
package testbed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// upTimeout is generous: the machine may be busy.
const upTimeout = 2 * time.Minute

// Sandbox is a running sandbox.
type Sandbox struct {
	Dir string
	// Bin is the folder of the programs under test.
	Bin     string
	Kube    dynamic.Interface
	cmd     *exec.Cmd
	reading chan error
}

// BinDir gives the folder that the Makefile builds into: the nearest bin above the
// working directory that holds the program.
func BinDir(program string) (string, error) {
	for dir, err := os.Getwd(); ; dir = filepath.Dir(dir) {
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(filepath.Join(dir, "bin", program)); err == nil {
			return filepath.Join(dir, "bin"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("bin/%s is not built; run: make sandbox", program)
		}
	}
}

// Up starts a sandbox in a new folder and waits until it is ready.
func Up(args ...string) (s *Sandbox, err error) {
	bin, err := BinDir("sandbox")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "squall-sandbox-")
	if err != nil {
		return nil, err
	}
	s = &Sandbox{Dir: dir, Bin: bin, reading: make(chan error, 1)}
	s.cmd = exec.Command(filepath.Join(bin, "sandbox"), append([]string{"up", "--dir", dir}, args...)...) //nolint:gosec,noctx // our own program; Down ends it
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil && line != "ready\n" {
			err = fmt.Errorf("the sandbox says %q instead of ready", line)
		}
		s.reading <- err
	}()
	select {
	case err = <-s.reading:
	case <-time.After(upTimeout):
		err = errors.New("the sandbox is not ready in time")
	}
	if err == nil {
		err = s.connect()
	}
	if err != nil {
		return nil, errors.Join(err, s.Down())
	}
	return s, nil
}

func (s *Sandbox) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.Dir, "kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS = -1
	s.Kube, err = dynamic.NewForConfig(config)
	return err
}

// Down stops the sandbox with its own command and removes its folder. It
// fails when a process is left.
func (s *Sandbox) Down() error {
	out, err := exec.Command(filepath.Join(s.Bin, "sandbox"), "down", "--dir", s.Dir).CombinedOutput() //nolint:gosec,noctx // our own program
	if err != nil {
		err = fmt.Errorf("sandbox down: %w: %s", err, out)
	}
	return errors.Join(err, s.cmd.Wait(), s.gone(0), os.RemoveAll(s.Dir))
}

// Kill kills the sandbox with SIGKILL. It fails when a child outlives it.
func (s *Sandbox) Kill() error {
	err := s.cmd.Process.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait() // killed, as asked
	return errors.Join(err, s.gone(5*time.Second), os.RemoveAll(s.Dir))
}

// gone waits until no process of the sandbox's programs is left.
func (s *Sandbox) gone(within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		left, err := processes(s.Bin)
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes are left: %v", left)
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // polls the process table, which nobody can wait on
	}
}

// processes lists the running processes of programs in a folder.
func processes(bin string) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		program, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		if err != nil || filepath.Dir(strings.TrimSuffix(program, " (deleted)")) != bin {
			continue
		}
		command, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil {
			continue // ended meanwhile
		}
		found = append(found, entry.Name()+": "+strings.ReplaceAll(string(command), "\x00", " "))
	}
	return found, nil
}

// Env gives the environment of a program that uses the sandbox.
func (s *Sandbox) Env() ([]string, error) {
	content, err := os.ReadFile(filepath.Join(s.Dir, "env"))
	if err != nil {
		return nil, err
	}
	env := os.Environ()
	for line := range strings.Lines(string(content)) {
		assignment, ok := strings.CutPrefix(strings.TrimSpace(line), "export ")
		if !ok {
			return nil, fmt.Errorf("line %q of env is not an export", line)
		}
		env = append(env, strings.ReplaceAll(assignment, "'", ""))
	}
	return env, nil
}

// CallResult is what sandbox call prints.
type CallResult struct {
	Calls    int            `json:"calls"`
	Codes    map[string]int `json:"codes"`
	Injected int            `json:"injected"`
	Latency  struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
		Max float64 `json:"max"`
	} `json:"latency_ms"`
}

// Call makes calls as a workload.
func (s *Sandbox) Call(ctx context.Context, from, to string, args ...string) (CallResult, error) {
	var result CallResult
	out, err := s.run(ctx, append([]string{"call", "--from", from, "--to", to}, args...)...)
	if err == nil {
		err = json.Unmarshal(out, &result)
	}
	return result, err
}

// Routes gives the routes that an Envoy of a workload would get.
func (s *Sandbox) Routes(ctx context.Context, as string, args ...string) (string, error) {
	out, err := s.run(ctx, append([]string{"routes", "--as", as}, args...)...)
	return string(out), err
}

func (s *Sandbox) run(ctx context.Context, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(s.Bin, "sandbox"), args...).Output() //nolint:gosec // our own program
	if failure, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("sandbox %v: %w: %s", args, err, failure.Stderr)
	}
	return out, err
}
