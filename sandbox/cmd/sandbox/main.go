// Command sandbox runs a real Istio mesh on one machine, without containers:
// the demo and the test bed of Squall.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/sandbox/internal/caller"
	"github.com/squall-chaos/squall/sandbox/internal/controlplane"
	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
	"github.com/squall-chaos/squall/sandbox/internal/shop"
)

func main() {
	// The kernel ties the children's lives to the thread that starts them.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := &cobra.Command{
		Use:           "sandbox",
		Short:         "A real Istio mesh on one machine, on loopback only",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(upCommand(), downCommand(), callCommand(), routesCommand(), workloadCommand())
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "sandbox: %v\n", err)
		os.Exit(1)
	}
}

func dirFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("dir", ".sandbox", "the sandbox's folder")
}

func openDir(name string) (layout.Dir, error) {
	absolute, err := filepath.Abs(name)
	return layout.Dir(absolute), err
}

func upCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Start a mesh and stay in the foreground; prints ready when all of it answers",
		Example: "  sandbox up &\n  . .sandbox/env",
		Args:    cobra.NoArgs,
	}
	name := dirFlag(cmd)
	noShop := cmd.Flags().Bool("no-shop", false, "start no workloads")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		dir, err := openDir(*name)
		if err != nil {
			return err
		}
		unlock, err := lock(dir)
		if err != nil {
			return err
		}
		defer unlock()
		mesh, err := controlplane.New(dir, !*noShop, os.Stderr)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, mesh.Stop()) }()
		start := time.Now()
		if err := mesh.Start(cmd.Context()); err != nil {
			if cmd.Context().Err() != nil {
				return nil
			}
			return err
		}
		fmt.Fprintf(os.Stderr, "sandbox: up in %.1fs; use it with: . %s\n", time.Since(start).Seconds(), dir.Env())
		fmt.Println("ready")
		select {
		case <-cmd.Context().Done():
			return nil
		case death := <-mesh.Died():
			return death
		}
	}
	return cmd
}

// lock makes the folder this process's own.
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
		_ = file.Truncate(0) // so that nobody takes the pid for that of the next sandbox
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

// isRunning reports whether a sandbox holds the folder's lock.
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
		Short:   "Stop the mesh that runs in a folder",
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

func callCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "call",
		Short:   "Call a service as a workload, with grpc-go's xDS client",
		Example: "  sandbox call --from shop/reviews-v1 --to ratings.prod.svc.cluster.local:9080 -n 100",
		Args:    cobra.NoArgs,
	}
	from := cmd.Flags().String("from", "", "NAMESPACE/WORKLOAD that calls")
	labels := cmd.Flags().String("labels", "", "its labels, as k=v,k=v (default: app and version from its name)")
	headers := cmd.Flags().StringArray("header", nil, "a header of each call, as k=v")
	calls := caller.Calls{}
	cmd.Flags().StringVar(&calls.Target, "to", "", "HOST:PORT that is called")
	cmd.Flags().IntVarP(&calls.Count, "count", "n", 100, "how many calls")
	cmd.Flags().Float64Var(&calls.Rate, "rate", 50, "calls per second")
	cmd.Flags().DurationVar(&calls.Timeout, "timeout", 2*time.Second, "deadline of each call")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if calls.Target == "" || calls.Count < 1 || calls.Rate <= 0 || calls.Timeout <= 0 {
			return errors.New("--to is needed, and -n, --rate and --timeout must be positive")
		}
		w, err := identity.Parse(*from, *labels)
		if err != nil {
			return fmt.Errorf("--from or --labels: %w", err)
		}
		calls.Headers = map[string]string{}
		for _, header := range *headers {
			key, value, ok := strings.Cut(header, "=")
			if !ok {
				return fmt.Errorf("--header %q is not k=v", header)
			}
			calls.Headers[key] = value
		}
		if os.Getenv(identity.BootstrapVariable) == "" {
			return restartAs(w)
		}
		result, err := caller.Make(cmd.Context(), calls)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	return cmd
}

// restartAs replaces the process by itself with an identity: grpc-go reads
// its bootstrap only when the program starts.
func restartAs(w identity.Workload) error {
	bootstrap, err := w.Bootstrap()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), identity.BootstrapVariable+"="+bootstrap))
}

func routesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "routes",
		Short:   "Print the routes that istiod sends to an Envoy, as JSON",
		Example: "  sandbox routes --as shop/reviews-v1 --host ratings.prod.svc.cluster.local",
		Args:    cobra.NoArgs,
	}
	as := cmd.Flags().String("as", "", "NAMESPACE/WORKLOAD whose proxy asks")
	labels := cmd.Flags().String("labels", "", "its labels, as k=v,k=v (default: app and version from its name)")
	host := cmd.Flags().String("host", "", "only the virtual hosts that serve this host")
	kind := cmd.Flags().String("kind", "sidecar", "sidecar or router")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *kind != "sidecar" && *kind != "router" {
			return fmt.Errorf("--kind %q is neither sidecar nor router", *kind)
		}
		w, err := identity.Parse(*as, *labels)
		if err != nil {
			return fmt.Errorf("--as or --labels: %w", err)
		}
		configs, err := routes.Fetch(cmd.Context(), w, *kind, *host)
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(configs)
		return err
	}
	return cmd
}

func workloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "workload NAME",
		Short:  "Run one workload of the shop; up does it",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := shop.Find(args[0])
			if err != nil {
				return err
			}
			return w.Run(cmd.Context())
		},
	}
}
