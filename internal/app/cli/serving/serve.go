// Package serving has the command that runs experiments by their schedules.
package serving

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/app/cli/args"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/cli/process"
	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/serve"
	"github.com/squall-chaos/squall/internal/app/serve/history"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/internal/app/terminal"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube/lease"
	"github.com/squall-chaos/squall/runner"
)

// serveFlags are the flags of squall serve.
type serveFlags struct {
	runner    flag.Runner
	out       string
	verbose   bool
	logFormat terminal.Format
	listen    string
	// externalURL is the URL of the status page in notifications.
	externalURL  string
	hosts        []string
	apiTokenFile string
	keepRuns     int
	keepFor      time.Duration
	limits       scheduler.Limits
	elect        bool
	leaseSpace   string
	leaseName    string
	notifyFile   string
	grafana      notify.Grafana
}

// New returns the command squall serve.
func New(env process.Env) *cobra.Command {
	flags := serveFlags{}
	command := &cobra.Command{
		Use:   "serve DIR",
		Short: "Run experiments by their schedules",
		Long: `Serve runs the experiments of a directory by their schedules, one at a time for
each host, and within the limits of its flags. It reads the directory again when
it changes, and keeps the last good version of a file that becomes invalid. It
removes expired faults of all users, and serves a status page, an API and
metrics. On SIGTERM or Ctrl-C it rolls back its live runs and ends.

With --leader-elect several replicas can run; one of them starts runs.

Exit codes: 0 ended by a signal, 2 bad usage or it could not start, 5 the
rollback of a run that was live at the end is incomplete.`,
		Example: `  squall serve experiments/ --prometheus http://prometheus.monitoring:9090
  squall serve /etc/squall --leader-elect --listen :8080 --api-token-file /run/secrets/token --protected '*.payments.svc.cluster.local' --max-percentage 50`,
		Args: args.Exactly(1, "one directory", "squall serve DIR"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return serveDirectory(cmd.Context(), env, flags, arguments[0])
		},
	}
	flags.add(command.Flags())
	return command
}

func (f *serveFlags) add(flags *pflag.FlagSet) {
	f.runner.Add(flags, "only namespace in which expired faults are removed and runs of others can be stopped (default all)")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "address of the status page, the API and the metrics")
	flags.StringVar(&f.externalURL, "external-url", "", "URL of the status page, for the links in notifications")
	flags.StringArrayVar(&f.hosts, "allowed-host", nil, "further host name by which clients reach the status page and the API, besides addresses, localhost and the host of --external-url; may be repeated")
	const apiToken = "file with the token that clients of the API need to start, stop and pause runs; without it the API is read-only"
	flags.StringVar(&f.apiTokenFile, "api-token-file", "", apiToken)
	flags.StringVar(&f.apiTokenFile, "token-file", "", apiToken)
	_ = flags.MarkDeprecated("token-file", "use --api-token-file") // fails for unknown flags
	flag.Out(flags, &f.out)
	flags.IntVar(&f.keepRuns, "keep-runs", 1000, "maximum number of runs kept in --out; 0 keeps all")
	flags.DurationVar(&f.keepFor, "keep-for", 2160*time.Hour, "maximum age of runs kept in --out; 0 keeps all")
	flags.IntVar(&f.limits.MaxConcurrent, "max-concurrent", 4, "maximum number of live runs; 0 is unlimited")
	flags.IntVar(&f.limits.MaxPerNamespace, "max-per-namespace", 1, "maximum number of live runs that disturb the calls from one namespace; 0 is unlimited")
	flags.StringArrayVar(&f.limits.Protected, "protected", nil, "shell pattern of hosts that faults must not target; may be repeated")
	flags.Float64Var(&f.limits.MaxPercentage, "max-percentage", 100, "maximum percentage of requests that faults may hit; 0 is unlimited")
	flags.DurationVar(&f.limits.MaxDuration, "max-duration", time.Hour, "maximum duration of an experiment; 0 is unlimited")
	flags.BoolVar(&f.elect, "leader-elect", false, "elect one of several replicas to run experiments")
	flags.StringVar(&f.leaseSpace, "lease-namespace", "", "namespace of the Leases (default the pod's namespace, else --home-namespace)")
	flags.StringVar(&f.leaseName, "lease-name", "squall", "name of the leader-election Lease; the Lease NAME-starts has the start times")
	flags.StringVar(&f.notifyFile, "notify-file", "", "file with the URLs of chats and webhooks to notify, one per line")
	flags.StringVar(&f.grafana.URL, "grafana", "", "URL of a Grafana to annotate with the time of each fault")
	flags.StringVar(&f.grafana.TokenFile, "grafana-token-file", "", "file with the token of a Grafana service account")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log debug messages too")
	flag.LogFormat(flags, &f.logFormat, "format of the log")
}

// serveDirectory serves until ctx ends. The error is one of usage, or the reason why
// serving cannot start.
func serveDirectory(ctx context.Context, env process.Env, flags serveFlags, directory string) error {
	if info, err := os.Stat(directory); err != nil || !info.IsDir() {
		return hint.With(fmt.Errorf("%s is not a directory", directory), "squall serve DIR, with the experiment files in it")
	}
	if err := flags.limits.Check(); err != nil {
		return hint.With(err, "check --protected and --max-percentage")
	}
	if err := os.MkdirAll(flags.out, 0o750); err != nil {
		return hint.With(err, "choose a directory with --out that Squall can write to")
	}
	counters := metrics.New(process.Version())
	log, flush := terminal.NewLog(env.Stderr, flags.logFormat, flags.verbose)
	defer flush()
	notifier, err := flags.notifier(counters, log) //nolint:contextcheck // queued notifications outlive ctx
	if err != nil {
		return err
	}
	r, err := flags.runner.Config(env)
	if err != nil {
		return err
	}
	server, lead, err := flags.server(ctx, env, directory, r, serve.Config{Notify: notifier.Notify, Metrics: counters, Log: log})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", flags.listen)
	if err != nil {
		return hint.With(err, "choose a free address with --listen")
	}
	web := server.HTTPServer(counters.Handler(), flags.apiTokenFile, process.Version())
	log.Info("serving", "address", listener.Addr().String(), "directory", directory)
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	all.Go(func() {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			stop(err)
		}
	})
	all.Go(func() { server.Watch(serving) })
	lead(serving)
	// The page is served until the last runs have ended.
	_ = web.Close()
	all.Wait()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	notifier.Close(closing)
	if left := server.Left(); len(left) > 0 {
		flush()
		output.Left(env.Stderr, left)
		return exit.With(exit.Left)
	}
	if cause := context.Cause(serving); ctx.Err() == nil && cause != nil {
		return hint.With(cause, "see the log above")
	}
	return nil
}

// notifyTimeout limits the delivery of the last notifications.
const notifyTimeout = 5 * time.Second

func (f *serveFlags) notifier(counters *metrics.Metrics, log *slog.Logger) (*notify.Notifier, error) {
	var urls []string
	var err error
	if f.notifyFile != "" {
		if urls, err = notify.Load(f.notifyFile); err != nil {
			return nil, hint.With(fmt.Errorf("--notify-file: %w", err), "the file needs one URL per line, such as slack://TOKEN@CHANNEL")
		}
	}
	var grafana *notify.Grafana
	if f.grafana.URL != "" {
		grafana = &f.grafana
	}
	notifier, err := notify.New(urls, grafana, func(target string, err error) {
		counters.NotificationFailed(target)
		log.Warn("notification lost", "target", target, "error", err)
	})
	if err != nil {
		return nil, hint.With(err, "check --notify-file and --grafana")
	}
	for _, target := range notifier.Targets() {
		counters.Notifies(target)
	}
	return notifier, nil
}

// server returns a server for the cluster. Lead lets it lead until ctx ends: always, or
// with --leader-elect while this replica is elected.
func (f *serveFlags) server(ctx context.Context, env process.Env, directory string, r runner.Config, config serve.Config) (server *serve.Server, lead func(ctx context.Context), err error) {
	lister, cluster, err := f.runner.Cluster.Lister()
	if err != nil {
		return nil, nil, err
	}
	config.Directory, config.Runner, config.Limits = directory, r, f.limits
	config.History = history.Config{Directory: f.out, KeepRuns: f.keepRuns, KeepFor: f.keepFor}
	config.Identity, config.ExternalURL = leadership.Identity(f.advertised(env)), f.externalURL
	config.Hosts = f.hosts
	config.Store = leadership.NewFile(filepath.Join(f.out, "starts.json"))
	served := servedCluster{lister: lister, cluster: cluster, identity: config.Identity, log: config.Log}
	config.Cluster, config.Emit = served, served.Emit
	if !f.elect {
		if _, err := config.Store.Load(ctx); err != nil {
			return nil, nil, hint.With(err, "repair or remove the file; without it all schedules begin now, and are not paused")
		}
		server = serve.New(config)
		server.Observe(config.Identity)
		return server, server.Lead, nil
	}
	namespace := cmp.Or(f.leaseSpace, env.Getenv("POD_NAMESPACE"), f.runner.Placement.Home, lister.Fallback)
	config.Store = leadership.TextStore{
		Text: lease.Store{Cluster: cluster, Namespace: namespace, Name: f.leaseName + "-starts"},
		Name: fmt.Sprintf("the Lease %s/%s-starts", namespace, f.leaseName),
	}
	server = serve.New(config)
	election := &lease.Election{
		Cluster: cluster, Namespace: namespace, Name: f.leaseName, Identity: config.Identity, Observed: server.Observe,
		Failed: func(err error) { config.Log.Error("leader election failed", "error", err) },
	}
	return server, func(ctx context.Context) { election.Run(ctx, server.Lead) }, nil
}

// advertised returns the address at which other replicas reach this one: the pod's. It
// is empty if there is none.
func (f *serveFlags) advertised(env process.Env) string {
	_, port, err := net.SplitHostPort(f.listen)
	if address := env.Getenv("POD_IP"); f.elect && address != "" && err == nil {
		return net.JoinHostPort(address, port)
	}
	return ""
}
