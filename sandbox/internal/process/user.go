package process

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// UserCommand is the command of the sandbox that calls ExecAs with its arguments.
const UserCommand = "as-user"

// ExecAs replaces the process by a program that runs as another user and group.
// The program keeps the capability to enter directories, because it and its
// files may be where only the sandbox's user can go. (SysProcAttr would drop the
// capability before it looks for the program.)
func ExecAs(user, program string, args []string) error {
	id, err := strconv.Atoi(user)
	if err != nil {
		return fmt.Errorf("user: %w", err)
	}
	runtime.LockOSThread() // capabilities and raw system calls are of the thread
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, 0, 0, 0},
		{unix.SYS_SETRESGID, uintptr(id), uintptr(id), uintptr(id)},
		{unix.SYS_SETRESUID, uintptr(id), uintptr(id), uintptr(id)},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return fmt.Errorf("become user %d: %w", id, errno)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	mask := uint32(1) << unix.CAP_DAC_READ_SEARCH
	data := [2]unix.CapUserData{{Effective: mask, Permitted: mask, Inheritable: mask}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_DAC_READ_SEARCH, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	return syscall.Exec(program, append([]string{program}, args...), os.Environ()) //nolint:gosec // our own programs
}
