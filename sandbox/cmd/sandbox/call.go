package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/sandbox/internal/caller"
	"github.com/squall-chaos/squall/sandbox/internal/control"
	"github.com/squall-chaos/squall/sandbox/internal/identity"
)

// outside is the caller that comes through the ingress gateway.
const outside = "outside"

// ingress is the address of the ingress gateway in the sandbox.
const ingress = "istio-ingressgateway.istio-ingress.svc.cluster.local:8080"

// callFlags are the flags of call and probe.
type callFlags struct {
	caller.Calls

	headers []string
	grpc    bool
	http    bool
}

func (f *callFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.Target, "to", "", "HOST:PORT that is called")
	flags.IntVarP(&f.Count, "count", "n", 100, "how many calls")
	flags.Float64Var(&f.Rate, "rate", 50, "calls per second")
	flags.DurationVar(&f.Timeout, "timeout", 2*time.Second, "deadline of each call")
	flags.StringArrayVar(&f.headers, "header", nil, "a header of each call, as k=v")
	flags.BoolVar(&f.grpc, "grpc", false, "call gRPC's health service (default without sidecars)")
	flags.BoolVar(&f.http, "http", false, "send HTTP requests (default with sidecars)")
	flags.StringVar(&f.Path, "path", "/", "path of HTTP requests")
	flags.StringVarP(&f.Method, "request", "X", http.MethodGet, "method of HTTP requests")
	flags.StringVar(&f.Connect, "connect", "", "HOST:PORT that HTTP connects to, if it differs from --to")
}

// parse checks the flags.
func (f *callFlags) parse() error {
	if f.Target == "" || f.Count < 1 || f.Rate <= 0 || f.Timeout <= 0 {
		return errors.New("--to is needed, and -n, --rate and --timeout must be positive")
	}
	if f.grpc && f.http {
		return errors.New("--grpc and --http exclude each other")
	}
	f.Headers = map[string]string{}
	for _, header := range f.headers {
		key, value, ok := strings.Cut(header, "=")
		if !ok {
			return fmt.Errorf("--header %q is not k=v", header)
		}
		f.Headers[key] = value
	}
	return nil
}

// args returns the flags as arguments.
func (f *callFlags) args() []string {
	args := []string{
		"--to", f.Target, "-n", fmt.Sprint(f.Count), "--rate", fmt.Sprint(f.Rate), "--timeout", f.Timeout.String(),
		"--path", f.Path, "-X", f.Method, "--connect", f.Connect,
	}
	for _, header := range f.headers {
		args = append(args, "--header", header)
	}
	if f.grpc {
		args = append(args, "--grpc")
	}
	return args
}

func callCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "call",
		Short: "Call a service as a workload: from inside of its pod, or with grpc-go's xDS client",
		Example: "  sandbox call --from shop/reviews-v1 --to ratings.prod.svc.cluster.local:9080 -n 100\n" +
			"  sandbox call --from outside --to shop.example.com --path /productpage",
		Args: cobra.NoArgs,
	}
	name := dirFlag(cmd)
	from := cmd.Flags().String("from", "", "NAMESPACE/WORKLOAD that calls, or outside for a call through the ingress gateway")
	labels := cmd.Flags().String("labels", "", "without sidecars: its labels, as k=v,k=v (default: app and version from its name)")
	var flags callFlags
	flags.add(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.parse(); err != nil {
			return err
		}
		dir, err := openDir(*name)
		if err != nil {
			return err
		}
		sidecars, err := hasSidecars(dir)
		if err != nil {
			return err
		}
		if !sidecars {
			return callProxyless(cmd.Context(), *from, *labels, flags)
		}
		if *labels != "" {
			return errors.New("--labels is for sandboxes without sidecars; here the caller is a pod")
		}
		place := *from
		if place == outside {
			place = control.Node
			if flags.Connect == "" {
				flags.Connect = ingress
			}
		}
		return runSelfIn(dir, place, append([]string{"probe"}, flags.args()...)...)
	}
	return cmd
}

// probeCommand makes the calls from where it runs.
func probeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "probe",
		Short:  "Make calls from this network; call does it in a pod",
		Args:   cobra.NoArgs,
		Hidden: true,
	}
	var flags callFlags
	flags.add(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.parse(); err != nil {
			return err
		}
		if flags.grpc {
			flags.Target = grpcScheme() + flags.Target
			return printed(caller.MakeGRPC(cmd.Context(), flags.Calls))
		}
		return printed(caller.MakeHTTP(cmd.Context(), flags.Calls))
	}
	return cmd
}

// grpcScheme returns how gRPC finds its target: as istiod says in a pod without
// Envoy, by DNS elsewhere.
func grpcScheme() string {
	if os.Getenv(identity.BootstrapVariable) != "" {
		return "xds:///"
	}
	return "dns:///"
}

func printed(result caller.Result, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// callProxyless calls as a workload that istiod configures by its identity.
func callProxyless(ctx context.Context, from, labels string, flags callFlags) error {
	if flags.http {
		return errors.New("--http is for sandboxes with sidecars")
	}
	w, err := identity.Parse(from, labels)
	if err != nil {
		return fmt.Errorf("--from or --labels: %w", err)
	}
	if os.Getenv(identity.BootstrapVariable) == "" {
		return restartAs(w)
	}
	flags.Target = "xds:///" + flags.Target
	return printed(caller.MakeGRPC(ctx, flags.Calls))
}

// restartAs replaces the process by another one of the same program with an
// identity: grpc-go reads its bootstrap only when the program starts.
func restartAs(w identity.Workload) error {
	bootstrap, err := w.Bootstrap()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), identity.BootstrapVariable+"="+bootstrap)) //nolint:gosec // this program
}
