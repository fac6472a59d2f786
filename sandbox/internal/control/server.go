// Package control runs commands inside a sandbox for processes outside of it,
// through a socket in the sandbox's directory.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// Node is the name of the place that is not a pod.
const Node = "node"

// Request is a command and where to run it. Its standard input, output and error
// are three descriptors that are sent with it.
type Request struct {
	// Place is Node, NAMESPACE/POD or NAMESPACE/WORKLOAD.
	Place string   `json:"place"`
	Args  []string `json:"args"`
	Env   []string `json:"env"`
	Dir   string   `json:"dir"`
}

// response is what came of a command.
type response struct {
	Code  int    `json:"code"`
	Error string `json:"error,omitempty"`
}

// Pod is where commands run that are for a pod.
type Pod struct {
	// Do calls a function that starts a process in the pod's network.
	Do func(func() error) error
	// Env is added to the environment of commands.
	Env []string
}

// Enter returns a pod by its name.
type Enter func(pod string) (Pod, error)

// Serve runs commands until the listener is closed.
func Serve(listener *net.UnixListener, enter Enter) {
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close() //nolint:errcheck // the client has its answer, or is gone
			answer, err := serve(conn, enter)
			if err != nil {
				answer = response{Code: 1, Error: err.Error()}
			}
			_ = json.NewEncoder(conn).Encode(answer) // the client may be gone
		}()
	}
}

// streams is how many descriptors come with a request.
const streams = 3

func serve(conn *net.UnixConn, enter Enter) (response, error) {
	files, err := receive(conn)
	defer func() {
		for _, f := range files {
			_ = f.Close() // the command has its own descriptors
		}
	}()
	if err != nil {
		return response{}, err
	}
	decoder := json.NewDecoder(conn)
	var request Request
	if err := decoder.Decode(&request); err != nil {
		return response{}, fmt.Errorf("request: %w", err)
	}
	if len(request.Args) == 0 {
		return response{}, errors.New("the request has no command")
	}
	return run(request, files, enter, conn)
}

// receive reads the descriptors of a request.
func receive(conn *net.UnixConn) ([]*os.File, error) {
	one, rights := make([]byte, 1), make([]byte, syscall.CmsgSpace(4*streams))
	_, n, _, _, err := conn.ReadMsgUnix(one, rights)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:n])
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	var files []*os.File
	for _, message := range messages {
		descriptors, err := syscall.ParseUnixRights(&message)
		if err != nil {
			return files, fmt.Errorf("request: %w", err)
		}
		for _, d := range descriptors {
			files = append(files, os.NewFile(uintptr(d), "stream"))
		}
	}
	if len(files) != streams {
		return files, fmt.Errorf("the request has %d descriptors instead of %d", len(files), streams)
	}
	return files, nil
}

// run runs a command, and kills it when its client goes away.
func run(request Request, files []*os.File, enter Enter, client io.Reader) (response, error) {
	program, err := exec.LookPath(request.Args[0])
	if err != nil {
		return response{}, err
	}
	cmd := exec.Command(program, request.Args[1:]...) //nolint:gosec,noctx // the user's own command; killed below
	cmd.Env, cmd.Dir = request.Env, request.Dir
	if _, err := os.Stat(cmd.Dir); err != nil {
		cmd.Dir = "/"
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	start := cmd.Start
	if request.Place != Node {
		pod, err := enter(request.Place)
		if err != nil {
			return response{}, err
		}
		cmd.Env = append(cmd.Env, pod.Env...)
		start = func() error { return pod.Do(cmd.Start) }
	}
	if err := start(); err != nil {
		return response{}, err
	}
	var ended atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, client) // ends when the client does
		if !ended.Load() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ending already
		}
	}()
	err = cmd.Wait()
	ended.Store(true)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code := exit.ExitCode()
		if code < 0 {
			return response{Code: 1, Error: exit.Error()}, nil
		}
		return response{Code: code}, nil
	}
	return response{}, err
}

// Listen listens in the sandbox's directory.
func Listen(dir layout.Dir) (*net.UnixListener, error) {
	if err := os.Remove(dir.Control()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	address, done, err := addressIn(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.ListenUnix("unix", address)
}

// addressIn returns the address of the socket relative to an open directory,
// because the path of a socket must be shorter than 108 bytes.
func addressIn(dir layout.Dir) (address *net.UnixAddr, done func(), err error) {
	opened, err := os.Open(string(dir))
	if err != nil {
		return nil, nil, err
	}
	name := fmt.Sprintf("/proc/self/fd/%d/%s", opened.Fd(), layout.ControlSocket)
	return &net.UnixAddr{Name: name, Net: "unix"}, func() { _ = opened.Close() }, nil
}
