package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// rootCommand is the command that waits until its user namespace has its users,
// and becomes this program with the arguments that follow.
const rootCommand = "as-root"

// mappedDescriptor is the descriptor from which rootCommand learns that its
// users are mapped.
const mappedDescriptor = 3

// neededIDs is how many subordinate ids the users of pods need: the ids in the
// namespace begin with 0.
const neededIDs = 1338

// The files with the subordinate ids of users (subuid(5), subgid(5)).
const (
	subordinateUsers  = "/etc/subuid"
	subordinateGroups = "/etc/subgid"
)

// parentVariable is the environment variable with the process with which a process
// in a user namespace ends.
const parentVariable = "SANDBOX_PARENT"

// tieToParent makes the kernel end this process, which a process in parentVariable
// has started, with its parent. The kernel forgets this when a program gets more
// capabilities, so the program itself asks for it.
func tieToParent() error {
	parent := os.Getenv(parentVariable)
	if parent == "" {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	if strconv.Itoa(os.Getppid()) != parent {
		return errors.New("the parent has ended")
	}
	return os.Unsetenv(parentVariable)
}

// errNoRoot says what sidecars need.
var errNoRoot = errors.New("sidecars need root, or a user namespace with subordinate ids")

// runAsRoot runs this program with the same arguments in a user namespace, in
// which the user is root and has the subordinate ids, and returns how it ends.
func runAsRoot(ctx context.Context) error {
	who, err := user.Current()
	if err != nil {
		return err
	}
	users, err := mapping("newuidmap", subordinateUsers, who, who.Uid)
	if err != nil {
		return err
	}
	groups, err := mapping("newgidmap", subordinateGroups, who, who.Gid)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer writer.Close()                                                         //nolint:errcheck // a child that waits ends without it
	root := exec.Command(self, append([]string{rootCommand}, os.Args[1:]...)...) //nolint:gosec,noctx // this program; stopped below
	root.Env = append(os.Environ(), parentVariable+"="+strconv.Itoa(os.Getpid()))
	root.Stdin, root.Stdout, root.Stderr, root.ExtraFiles = os.Stdin, os.Stdout, os.Stderr, []*os.File{reader}
	// A Ctrl-C must reach this process alone.
	root.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, Setpgid: true}
	err = root.Start()
	_ = reader.Close() // the child has its own descriptor
	if err != nil {
		return fmt.Errorf("%w, which the kernel does not permit: %w; use --proxyless", errNoRoot, err)
	}
	defer context.AfterFunc(ctx, func() { _ = root.Process.Signal(syscall.SIGTERM) })() // ended already
	pid := strconv.Itoa(root.Process.Pid)
	for _, arguments := range [][]string{users, groups} {
		out, err := exec.CommandContext(ctx, arguments[0], append([]string{pid}, arguments[1:]...)...).CombinedOutput() //nolint:gosec // fixed programs
		if err != nil {
			_ = root.Process.Kill() // it waits
			_ = root.Wait()         // killed
			return fmt.Errorf("%w: %s: %w: %s", errNoRoot, arguments[0], err, strings.TrimSpace(string(out)))
		}
	}
	if _, err := writer.Write([]byte{0}); err != nil {
		return err
	}
	err = root.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		return exitError(exit.ExitCode()) // it has said why
	}
	return err
}

// mapping returns the command, without the process, that maps root to a user, and
// the other ids to the subordinate ids that a file has for it.
func mapping(program, file string, who *user.User, id string) ([]string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is missing; run: apt-get install uidmap, or use --proxyless", errNoRoot, program)
	}
	content, err := os.Open(file) //nolint:gosec // a fixed file
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	first, count := 0, 0
	if err == nil {
		defer content.Close() //nolint:errcheck // opened for reading
		first, count = subordinate(content, who)
	}
	if count < neededIDs {
		return nil, fmt.Errorf("%w: %s has fewer than %d ids of %s; run as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s, or use --proxyless", errNoRoot, file, neededIDs, who.Username, who.Username)
	}
	return []string{path, "0", id, "1", "1", strconv.Itoa(first), strconv.Itoa(count)}, nil
}

// subordinate returns the largest range of ids that a file has for a user, whose
// lines are NAME-OR-ID:FIRST:COUNT.
func subordinate(file io.Reader, who *user.User) (first, count int) {
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 || fields[0] != who.Username && fields[0] != who.Uid {
			continue
		}
		from, fromErr := strconv.Atoi(fields[1])
		size, sizeErr := strconv.Atoi(fields[2])
		if fromErr == nil && sizeErr == nil && size > count {
			first, count = from, size
		}
	}
	return first, count
}

func asRootCommand() *cobra.Command {
	return &cobra.Command{
		Use:                rootCommand + " ARGS",
		Short:              "Run this program as root of a user namespace; up does it",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			mapped := os.NewFile(mappedDescriptor, "mapped")
			if _, err := io.ReadFull(mapped, make([]byte, 1)); err != nil {
				return fmt.Errorf("wait for the users: %w", err)
			}
			_ = mapped.Close() // nothing more is read
			self, err := os.Executable()
			if err != nil {
				return err
			}
			// A program that root of the namespace starts has all capabilities in it.
			return syscall.Exec(self, append([]string{self}, args...), os.Environ()) //nolint:gosec // this program
		},
	}
}
