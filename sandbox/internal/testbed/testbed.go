// Package testbed starts sandboxes for tests, and checks that they leave nothing
// behind: no process, no namespace, no network device, no mount and no directory.
package testbed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// upTimeout is long, because the machine may be busy.
const upTimeout = 4 * time.Minute

// Sandbox is a running sandbox.
type Sandbox struct {
	Dir string
	// Bin is the directory of the programs under test.
	Bin  string
	Kube dynamic.Interface
	// processes is the process namespace of a sandbox with sidecars.
	processes string
	cmd       *exec.Cmd
	reading   chan error
	ended     chan struct{} // closed when up has ended
}

// BinDir returns the directory that the Makefile builds into: the nearest bin
// above the working directory with the program in it.
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

// Up starts a sandbox without sidecars in a new directory and waits until it is
// ready.
func Up(args ...string) (*Sandbox, error) { return up(self, append(args, "--proxyless")) }

// self is the user and group of the tests.
const self = -1

// UpSidecars does the same with sidecars.
func UpSidecars(args ...string) (*Sandbox, error) { return UpSidecarsAs(self, args...) }

// UpSidecarsAs does the same as another user and group.
func UpSidecarsAs(user int, args ...string) (*Sandbox, error) {
	s, err := up(user, args)
	if err != nil {
		return nil, err
	}
	s.processes, err = s.nodeNamespace()
	if err != nil {
		return nil, errors.Join(err, s.Down())
	}
	return s, nil
}

// Attach returns a sandbox that was started by hand, and stays when the tests end.
func Attach(dir string) (*Sandbox, error) {
	bin, err := BinDir("sandbox")
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Sandbox{Dir: dir, Bin: bin}
	return s, s.connect()
}

// nodeNamespace returns the process namespace of the sandbox's node: the only
// child of up, or of the process that up has started in a user namespace.
func (s *Sandbox) nodeNamespace() (string, error) {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", err
	}
	for pid := strconv.Itoa(s.cmd.Process.Pid); ; {
		if pid, err = onlyChild(pid); err != nil {
			return "", err
		}
		namespace, err := os.Readlink(filepath.Join("/proc", pid, "ns", "pid"))
		if err != nil || namespace != own {
			return namespace, err
		}
	}
}

// onlyChild returns the child of a process.
func onlyChild(pid string) (string, error) {
	threads, err := filepath.Glob("/proc/" + pid + "/task/*/children")
	if err != nil {
		return "", err
	}
	for _, thread := range threads {
		children, err := os.ReadFile(thread) //nolint:gosec // a file of /proc
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(children)) {
			return child, nil
		}
	}
	return "", fmt.Errorf("process %s has no child", pid)
}

func up(user int, args []string) (s *Sandbox, err error) {
	bin, err := BinDir("sandbox")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "squall-sandbox-")
	if err != nil {
		return nil, err
	}
	s = &Sandbox{Dir: dir, Bin: bin, reading: make(chan error, 1), ended: make(chan struct{})}
	s.cmd = exec.Command(filepath.Join(bin, "sandbox"), append([]string{"up", "--dir", dir}, args...)...) //nolint:gosec,noctx // our own program; Down ends it
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if user != self {
		if err := os.Chown(dir, user, user); err != nil {
			return nil, err
		}
	}
	if err := s.start(user); err != nil {
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

// start starts the sandbox as a user. It ends with this process, however that ends.
func (s *Sandbox) start(user int) error {
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if user != self {
		s.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(user)} //nolint:gosec // a user
	}
	started := make(chan error, 1)
	go func() {
		// The signal is sent when this thread ends, so it must not before the process.
		runtime.LockOSThread()
		started <- s.cmd.Start()
		<-s.ended
		runtime.UnlockOSThread()
	}()
	return <-started
}

// wait waits until up has ended.
func (s *Sandbox) wait() error {
	defer close(s.ended)
	return s.cmd.Wait()
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

// Down stops the sandbox with sandbox down and removes its directory. It fails
// if anything is left.
func (s *Sandbox) Down() error {
	out, err := exec.Command(filepath.Join(s.Bin, "sandbox"), "down", "--dir", s.Dir).CombinedOutput() //nolint:gosec,noctx // our own program
	if err != nil {
		err = fmt.Errorf("sandbox down: %w: %s", err, out)
	}
	return errors.Join(err, s.wait(), s.Gone(0), s.hostIsClean(), os.RemoveAll(s.Dir))
}

// Wait waits until the sandbox has ended by itself, and returns its error. It
// fails if anything is left.
func (s *Sandbox) Wait() (exit, err error) {
	exit = s.wait()
	return exit, errors.Join(s.Gone(0), s.hostIsClean(), os.RemoveAll(s.Dir))
}

// Part returns the process of a part of the control plane, such as istiod.
func (s *Sandbox) Part(name string) (int, error) {
	found, err := s.running()
	if err != nil {
		return 0, err
	}
	for pid, command := range found {
		if words := strings.Fields(command); len(words) > 1 && filepath.Base(words[0]) == "sandbox-controlplane" && words[1] == name {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s does not run", name)
}

// Pids returns the processes of the sandbox that run a program, such as envoy.
func (s *Sandbox) Pids(program string) ([]int, error) {
	found, err := s.running()
	var pids []int
	for pid, command := range found {
		if name, _, _ := strings.Cut(command, " "); filepath.Base(name) == program {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, err
}

// Kill kills the sandbox with SIGKILL. It fails if anything outlives it.
func (s *Sandbox) Kill() error {
	err := s.cmd.Process.Signal(syscall.SIGKILL)
	_ = s.wait() // killed
	return errors.Join(err, s.Gone(5*time.Second), s.hostIsClean(), os.RemoveAll(s.Dir))
}

// hostIsClean returns an error if the host has a network device or a mount that
// only the sandbox's namespaces should have.
func (s *Sandbox) hostIsClean() error {
	devices, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, device := range devices {
		if strings.HasPrefix(device.Name, "pod") {
			return fmt.Errorf("network device %s is left", device.Name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), s.Dir) {
		return fmt.Errorf("mounts are left:\n%s", mounts)
	}
	return nil
}

// Gone waits until no process of the sandbox is left, and with its processes no
// namespace.
func (s *Sandbox) Gone(within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		left, err := s.running()
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes are left: %v", left)
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the process table can only be polled
	}
}

// running returns the command lines of the sandbox's processes: of all in its
// process namespace, or without one of all in this one that run a program of Bin.
func (s *Sandbox) running() (map[int]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	found := map[int]string{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		program, programErr := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		namespace, namespaceErr := os.Readlink(filepath.Join("/proc", entry.Name(), "ns", "pid"))
		command, commandErr := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if errors.Join(programErr, namespaceErr, commandErr) != nil {
			continue // ended meanwhile
		}
		isOurs := namespace == s.processes
		if s.processes == "" {
			isOurs = namespace == own && filepath.Dir(strings.TrimSuffix(program, " (deleted)")) == s.Bin
		}
		if isOurs {
			found[pid] = strings.ReplaceAll(string(command), "\x00", " ")
		}
	}
	return found, nil
}

// Env returns the environment of a program that uses the sandbox.
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
	out, err := s.Command(ctx, append([]string{"call", "--dir", s.Dir, "--from", from, "--to", to}, args...)...)
	if err == nil {
		err = json.Unmarshal(out, &result)
	}
	return result, err
}

// Routes returns the routes that an Envoy of a workload would get.
func (s *Sandbox) Routes(ctx context.Context, as string, args ...string) (string, error) {
	out, err := s.Command(ctx, append([]string{"routes", "--dir", s.Dir, "--as", as}, args...)...)
	return string(out), err
}

// Envoy returns what the admin interface of a pod's Envoy answers.
func (s *Sandbox) Envoy(ctx context.Context, pod, path string) (string, error) {
	out, err := s.Command(ctx, "envoy", "--dir", s.Dir, pod, path)
	return string(out), err
}

// Exec runs a command in a pod and returns its output.
func (s *Sandbox) Exec(ctx context.Context, pod string, command ...string) (string, error) {
	out, err := s.Command(ctx, append([]string{"exec", "--dir", s.Dir, pod, "--"}, command...)...)
	return string(out), err
}

// Command runs a command of the sandbox program and returns its output.
func (s *Sandbox) Command(ctx context.Context, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(s.Bin, "sandbox"), args...).Output() //nolint:gosec // our own program
	if failure, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("sandbox %v: %w: %s", args, err, failure.Stderr)
	}
	return out, err
}
