package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// ErrNotRunning says that no sandbox with sidecars runs in a directory.
var ErrNotRunning = errors.New("no sandbox with sidecars is running")

// Dial connects to the sandbox that runs in a directory.
func Dial(dir layout.Dir) (*net.UnixConn, error) {
	address, done, err := addressIn(dir)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", ErrNotRunning, dir)
	}
	defer done()
	conn, err := net.DialUnix("unix", nil, address)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w in %s", ErrNotRunning, dir)
	}
	return conn, err
}

// Run runs a command of the user's in the sandbox, with the process's standard
// input, output and error, and returns its exit code.
func Run(dir layout.Dir, request Request) (int, error) {
	conn, err := Dial(dir)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // the command has ended
	rights := syscall.UnixRights(int(os.Stdin.Fd()), int(os.Stdout.Fd()), int(os.Stderr.Fd()))
	if _, _, err := conn.WriteMsgUnix([]byte{0}, rights, nil); err != nil {
		return 0, fmt.Errorf("ask the sandbox: %w", err)
	}
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return 0, fmt.Errorf("ask the sandbox: %w", err)
	}
	var answer response
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return 0, fmt.Errorf("the sandbox's answer: %w", err)
	}
	if answer.Error != "" {
		return answer.Code, errors.New(answer.Error)
	}
	return answer.Code, nil
}
