package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
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

	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/serve"
	"github.com/squall-chaos/squall/internal/app/serve/history"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/internal/app/terminal"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/runner"
)

// serveFlags are the flags of squall serve.
type serveFlags struct {
	runner    runnerFlags
	out       string
	verbose   bool
	logFormat terminal.Format
	listen    string
	// externalURL is the status page's address to others.
	externalURL  string
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

func newServeCommand(env Env) *cobra.Command {
	flags := serveFlags{}
	command := &cobra.Command{
		Use:   "serve DIR",
		Short: "Run experiments by their schedules",
		Long: `Serve runs the experiments of a folder by their schedules, one at a time for a
host, and within the limits of its flags, which no file can exceed. It reads the
folder again when it changes; a file that breaks keeps its last good version. It
removes what has expired, whoever made it, serves a status page, an API and
metrics, and ends all live runs with a rollback when it is told to end.

With --leader-elect several replicas may run: one of them starts runs.

Exit codes: 0 ended as told, 2 bad usage or it could not begin, 5 the rollback of
a run that was live at the end is incomplete.`,
		Example: `  squall serve experiments/ --prometheus http://prometheus.monitoring:9090
  squall serve /etc/squall --leader-elect --listen :8080 --api-token-file /run/secrets/token --protected '*.payments.svc.cluster.local' --max-percentage 50`,
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) != 1 {
				return hint.With(fmt.Errorf("%d folders instead of one", len(arguments)), "squall serve DIR")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return serveFolder(cmd.Context(), env, flags, arguments[0])
		},
	}
	flags.add(command.Flags())
	return command
}

func (f *serveFlags) add(flags *pflag.FlagSet) {
	f.runner.add(flags, "namespace in which expired faults are removed and the runs of others can be stopped; empty means all")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "address of the status page, the API and the metrics")
	flags.StringVar(&f.externalURL, "external-url", "", "URL of the status page as people reach it, for the links in notifications")
	const apiToken = "file with the token that permits to start, stop and pause runs; without it the page and the API are read-only"
	flags.StringVar(&f.apiTokenFile, "api-token-file", "", apiToken)
	flags.StringVar(&f.apiTokenFile, "token-file", "", apiToken)
	_ = flags.MarkDeprecated("token-file", "use --api-token-file") // fails for unknown flags
	flags.StringVar(&f.out, "out", defaultOut, "directory in which each run gets a directory with its journal and reports")
	flags.IntVar(&f.keepRuns, "keep-runs", 1000, "how many runs are kept there; 0 keeps all")
	flags.DurationVar(&f.keepFor, "keep-for", 2160*time.Hour, "for how long they are kept; 0 keeps all")
	flags.IntVar(&f.limits.MaxConcurrent, "max-concurrent", 4, "how many runs may be live; 0 sets no limit")
	flags.IntVar(&f.limits.MaxPerNamespace, "max-per-namespace", 1, "how many runs may disturb the calls from one namespace; 0 sets no limit")
	flags.StringArrayVar(&f.limits.Protected, "protected", nil, "host that no fault may target, as a shell pattern; several are allowed")
	flags.Float64Var(&f.limits.MaxPercentage, "max-percentage", 100, "the largest share of requests that faults may hit; 0 sets no limit")
	flags.DurationVar(&f.limits.MaxDuration, "max-duration", time.Hour, "the longest that an experiment may last; 0 sets no limit")
	flags.BoolVar(&f.elect, "leader-elect", false, "let one of several replicas run experiments")
	flags.StringVar(&f.leaseSpace, "lease-namespace", "", "namespace of the Leases (default the pod's, or --home-namespace)")
	flags.StringVar(&f.leaseName, "lease-name", "squall", "name of the Lease of the leader; that of the starts ends in -starts")
	flags.StringVar(&f.notifyFile, "notify-file", "", "file with the URLs that are told of runs, one a line: chat and webhooks")
	flags.StringVar(&f.grafana.URL, "grafana", "", "URL of a Grafana in which the time of each fault is marked")
	flags.StringVar(&f.grafana.TokenFile, "grafana-token-file", "", "file with the token of Grafana's service account")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log more")
	addLogFormat(flags, &f.logFormat, "format of the log")
}

// serveFolder serves until ctx ends. An error is one of usage, or says that it
// could not begin.
func serveFolder(ctx context.Context, env Env, flags serveFlags, folder string) error {
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return hint.With(fmt.Errorf("%s is no folder", folder), "squall serve DIR, with the experiment files in it")
	}
	if err := flags.limits.Check(); err != nil {
		return hint.With(err, "--protected '*.payments.svc.cluster.local'")
	}
	if err := os.MkdirAll(flags.out, 0o750); err != nil {
		return hint.With(err, "--out names a folder that can be written")
	}
	telling := metrics.New(version())
	log, flush := terminal.NewLog(env.Stderr, flags.logFormat, flags.verbose)
	defer flush()
	notifier, err := flags.notifier(telling, log) //nolint:contextcheck // what is queued outlives ctx
	if err != nil {
		return err
	}
	r, err := runnerConfig(env, flags.runner)
	if err != nil {
		return err
	}
	server, lead, err := flags.server(env, folder, r, serve.Config{Notify: notifier.Notify, Metrics: telling, Log: log})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", flags.listen)
	if err != nil {
		return hint.With(err, "--listen names a free address")
	}
	web := server.HTTPServer(telling.Handler(), flags.apiTokenFile, version())
	log.Info("serving", "address", listener.Addr().String(), "folder", folder)
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
	// The page shows how the last runs end.
	_ = web.Close()
	all.Wait()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	notifier.Close(closing)
	if left := server.Left(); len(left) > 0 {
		flush()
		printLeft(env, left)
		return exit(exitLeft)
	}
	if cause := context.Cause(serving); ctx.Err() == nil && cause != nil {
		return hint.With(cause, "see the log above")
	}
	return nil
}

// notifyTimeout is how long the last notifications may take at the end.
const notifyTimeout = 5 * time.Second

func (f *serveFlags) notifier(telling *metrics.Metrics, log *slog.Logger) (*notify.Notifier, error) {
	var urls []string
	var err error
	if f.notifyFile != "" {
		if urls, err = notify.Load(f.notifyFile); err != nil {
			return nil, hint.With(fmt.Errorf("--notify-file: %w", err), "one URL a line, such as slack://TOKEN@CHANNEL")
		}
	}
	var grafana *notify.Grafana
	if f.grafana.URL != "" {
		grafana = &f.grafana
	}
	notifier, err := notify.New(urls, grafana, func(target string, err error) {
		telling.NotificationFailed(target)
		log.Warn("notification lost", "target", target, "error", err)
	})
	if err != nil {
		return nil, hint.With(err, "check --notify-file and --grafana")
	}
	for _, target := range notifier.Targets() {
		telling.Notifies(target)
	}
	return notifier, nil
}

// server connects a server to the cluster, and to its replicas if there are any.
// Lead lets it lead until ctx ends, whenever it is elected.
func (f *serveFlags) server(env Env, directory string, r runner.Config, config serve.Config) (server *serve.Server, lead func(ctx context.Context), err error) {
	lister, cluster, err := newLister(&f.runner.kubernetes)
	if err != nil {
		return nil, nil, err
	}
	config.Directory, config.Runner, config.Limits = directory, r, f.limits
	config.History = history.Config{Directory: f.out, KeepRuns: f.keepRuns, KeepFor: f.keepFor}
	config.Identity, config.ExternalURL = identity(f.advertised(env)), f.externalURL
	config.Store = leadership.NewFile(filepath.Join(f.out, "starts.json"))
	served := servedCluster{lister: lister, cluster: cluster, identity: config.Identity, log: config.Log}
	config.Cluster, config.Emit = served, served.Emit
	if !f.elect {
		server = serve.New(config)
		server.Observe(config.Identity)
		return server, server.Lead, nil
	}
	namespace := cmp.Or(f.leaseSpace, env.Getenv("POD_NAMESPACE"), f.runner.placement.home, lister.Fallback)
	config.Store = leadership.TextStore{Text: kube.LeaseStore{Cluster: cluster, Namespace: namespace, Name: f.leaseName + "-starts"}}
	server = serve.New(config)
	election := &kube.Election{
		Cluster: cluster, Namespace: namespace, Name: f.leaseName, Identity: config.Identity, Observed: server.Observe,
		Failed: func(err error) { config.Log.Error("the Lease of the leader", "error", err) },
	}
	return server, func(ctx context.Context) { election.Run(ctx, server.Lead) }, nil
}

// advertised is where other replicas reach this one: at the pod's address. Empty
// means nowhere.
func (f *serveFlags) advertised(env Env) string {
	_, port, err := net.SplitHostPort(f.listen)
	if address := env.Getenv("POD_IP"); f.elect && address != "" && err == nil {
		return net.JoinHostPort(address, port)
	}
	return ""
}

// identity names this process unlike any other, also of the same host, and says
// where it is reached.
func identity(address string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "squall"
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	name := host + "-" + hex.EncodeToString(random[:])
	if address != "" {
		name += "@" + address
	}
	return name
}
