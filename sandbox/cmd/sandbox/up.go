package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/sandbox/internal/controlplane"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

func upCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Start a mesh and stay in the foreground; prints ready when all of it answers",
		Example: "  sandbox up &\n  . .sandbox/env\n  sandbox up --proxyless",
		Args:    cobra.NoArgs,
	}
	name := dirFlag(cmd)
	noShop := cmd.Flags().Bool("no-shop", false, "start no workloads")
	proxyless := cmd.Flags().Bool("proxyless", false, "start workloads without sidecars, on fixed loopback ports; needs neither root nor user namespaces")
	gateways := cmd.Flags().Bool("gateways", false, "start an ingress and an egress gateway too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !*proxyless && os.Geteuid() != 0 {
			return runAsRoot(cmd.Context())
		}
		if err := tieToParent(); err != nil {
			return err
		}
		dir, err := openDir(*name)
		if err != nil {
			return err
		}
		unlock, err := lock(dir)
		if err != nil {
			return err
		}
		defer unlock()
		if *proxyless {
			return upProxyless(cmd.Context(), controlplane.Options{Dir: dir, Shop: !*noShop, Log: os.Stderr})
		}
		return upSidecars(cmd.Context(), dir, nodeFlags{noShop: *noShop, gateways: *gateways})
	}
	return cmd
}

// upProxyless runs a sandbox without sidecars in this process's network.
func upProxyless(ctx context.Context, options controlplane.Options) (err error) {
	mesh, err := controlplane.New(options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mesh.Stop()) }()
	return stay(ctx, mesh, options.Dir)
}

// stay starts a sandbox and runs it until ctx ends or a part of it does.
func stay(ctx context.Context, mesh *controlplane.Mesh, dir layout.Dir) error {
	start := time.Now()
	if err := mesh.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // stopped before it was ready
		}
		return err
	}
	fmt.Fprintf(os.Stderr, "sandbox: up in %.1fs; use it with: . %s\n", time.Since(start).Seconds(), dir.Env())
	fmt.Fprintln(os.Stdout, "ready")
	select {
	case <-ctx.Done():
		return nil
	case death := <-mesh.Died():
		return death
	}
}

// lock locks the directory for this process.
func lock(dir layout.Dir) (unlock func(), err error) {
	if err := os.MkdirAll(string(dir), 0o750); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(dir.Lock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := readPid(dir)
		return nil, errors.Join(fmt.Errorf("a sandbox is running in %s already (pid %d); stop it with: sandbox down --dir %s", dir, pid, dir), file.Close())
	}
	if err := errors.Join(file.Truncate(0), writePid(file)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() {
		_ = file.Truncate(0) // its pid may become another process's
		_ = file.Close()     // releases the lock
	}, nil
}

func writePid(file *os.File) error {
	_, err := file.WriteString(strconv.Itoa(os.Getpid()))
	return err
}

func readPid(dir layout.Dir) (int, error) {
	content, err := os.ReadFile(dir.Lock())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(content)))
}

// isRunning reports whether a sandbox holds the lock of the directory.
func isRunning(dir layout.Dir) (bool, error) {
	file, err := os.Open(dir.Lock())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	switch err := syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return true, nil
	default:
		return false, err
	}
}

// downTimeout is how long a sandbox may take to stop.
const downTimeout = 60 * time.Second

func downCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "Stop the mesh that runs in a directory",
		Example: "  sandbox down",
		Args:    cobra.NoArgs,
	}
	name := dirFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := openDir(*name)
		if err != nil {
			return err
		}
		running, err := isRunning(dir)
		if err != nil {
			return err
		}
		if !running {
			fmt.Fprintf(os.Stderr, "sandbox: none is running in %s\n", dir)
			return nil
		}
		pid, err := readPid(dir)
		if err != nil {
			return fmt.Errorf("which process holds %s: %w", dir.Lock(), err)
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			return fmt.Errorf("stop pid %d: %w", pid, err)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), downTimeout)
		defer cancel()
		for {
			if running, err := isRunning(dir); err != nil || !running {
				return err
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("pid %d has not stopped: %w", pid, ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return cmd
}
