package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/sandbox/internal/controlplane"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// nodeFlags are the flags of up that the node gets too.
type nodeFlags struct {
	noShop, gateways bool
}

func (f nodeFlags) args() []string {
	var args []string
	if f.noShop {
		args = append(args, "--no-shop")
	}
	if f.gateways {
		args = append(args, "--gateways")
	}
	return args
}

// The descriptors that the node inherits: the listeners on the host.
const (
	apiServerDescriptor = iota + 3
	prometheusDescriptor
)

// nodeStopTimeout is how long the node may take to end.
const nodeStopTimeout = 5 * time.Second

// upSidecars runs a sandbox in new namespaces, and stays until ctx ends or
// the sandbox does. The first process of the new process namespace is the node:
// when it ends, the kernel kills everything in the namespaces and removes them.
func upSidecars(ctx context.Context, dir layout.Dir, flags nodeFlags) error {
	envoy, err := findEnvoy()
	if err != nil {
		return err
	}
	if err := checkIptables(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // the node has its own descriptors
		}
	}()
	for range 2 {
		file, err := listenOnHost(ctx)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	node := exec.Command(self, append([]string{"node", "--dir", string(dir), "--envoy", envoy}, flags.args()...)...) //nolint:gosec,noctx // this program; stopped below
	node.Stdout, node.Stderr, node.ExtraFiles = os.Stdout, os.Stderr, files
	node.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Setpgid:    true, // a Ctrl-C must reach this process alone
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := node.Start(); err != nil {
		return fmt.Errorf("start in new namespaces: %w", err)
	}
	ended := make(chan struct{})
	var result error // valid once ended is closed
	go func() {
		result = node.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		removePods(dir)
		if result != nil {
			return fmt.Errorf("the sandbox has ended: %w", result)
		}
		return nil
	case <-ctx.Done():
	}
	_ = node.Process.Signal(syscall.SIGTERM) // ended already
	select {
	case <-ended:
	case <-time.After(nodeStopTimeout):
		_ = node.Process.Kill() // ended already
		<-ended
	}
	removePods(dir)
	return nil
}

// removePods removes the files of pods. The user of a user namespace cannot remove
// them outside of it.
func removePods(dir layout.Dir) { _ = os.RemoveAll(dir.Path("pods")) } // removed by the next sandbox

// listenOnHost listens on a free port of loopback.
func listenOnHost(ctx context.Context) (*os.File, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close() //nolint:errcheck // the file stays open
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, errors.New("not a TCP listener")
	}
	return tcp.File()
}

// findEnvoy returns the path of Envoy: $ENVOY, or the one beside this program.
func findEnvoy() (string, error) {
	path := os.Getenv("ENVOY")
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		path = filepath.Join(filepath.Dir(self), "envoy")
	}
	path, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("sidecars need Envoy: %w; run: make sandbox, or set ENVOY=PATH, or use --proxyless", err)
	}
	return filepath.Abs(path)
}

// checkIptables returns an error that says what is missing to redirect the
// traffic of pods.
func checkIptables() error {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "iptables-restore")); err == nil {
			return nil
		}
	}
	return errors.New("sidecars need iptables; run: apt-get install iptables, or use --proxyless")
}

func nodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "node",
		Short:  "Run the sandbox in new namespaces; up does it",
		Args:   cobra.NoArgs,
		Hidden: true,
	}
	name := dirFlag(cmd)
	envoy := cmd.Flags().String("envoy", "", "the path of Envoy")
	var flags nodeFlags
	cmd.Flags().BoolVar(&flags.noShop, "no-shop", false, "start no workloads")
	cmd.Flags().BoolVar(&flags.gateways, "gateways", false, "start an ingress and an egress gateway too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if os.Getpid() != 1 {
			return errors.New("node runs in the namespaces that up creates")
		}
		dir, err := openDir(*name)
		if err != nil {
			return err
		}
		apiServer, err := inherited(apiServerDescriptor)
		if err != nil {
			return err
		}
		prometheus, err := inherited(prometheusDescriptor)
		if err != nil {
			return err
		}
		mesh, err := controlplane.New(controlplane.Options{Dir: dir, Shop: !flags.noShop, Log: os.Stderr, Sidecars: &controlplane.Sidecars{
			Envoy: *envoy, APIServer: apiServer.Addr().String(), Prometheus: prometheus.Addr().String(), Gateways: flags.gateways,
		}})
		if err != nil {
			return err
		}
		controlplane.RelayTo(apiServer, prometheus)
		return stay(cmd.Context(), mesh, dir)
	}
	return cmd
}

// inherited returns a listener that this process was started with.
func inherited(descriptor uintptr) (net.Listener, error) {
	file := os.NewFile(descriptor, "listener")
	defer file.Close() //nolint:errcheck // the listener has its own descriptor
	return net.FileListener(file)
}
