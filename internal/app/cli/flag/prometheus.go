package flag

import (
	"cmp"
	"errors"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/steady-state/prom"
)

// Prometheus chooses the Prometheus server.
type Prometheus struct {
	// Purpose is what the command cannot do without a server, for the hint of its error.
	Purpose string

	address, httpConfig string
}

// Add adds the flags.
func (p *Prometheus) Add(flags *pflag.FlagSet) {
	// The variable must not be the default of the flag: --help would print its
	// password.
	flags.StringVar(&p.address, "prometheus", "", "URL of a Prometheus server, or of a server with its API such as Thanos or Mimir; or SQUALL_PROMETHEUS")
	flags.StringVar(&p.httpConfig, "prometheus-http-config", "", "file with an http_config as in the configuration of Prometheus: authorization, basic_auth, oauth2, tls_config, http_headers")
}

// ErrNoPrometheus is the error of a command without a Prometheus server.
var ErrNoPrometheus = errors.New("no Prometheus server is named")

// Client returns a client. It sends nothing. The error is one of usage.
func (p *Prometheus) Client(getenv func(string) string) (*prom.Client, error) {
	address := cmp.Or(p.address, getenv("SQUALL_PROMETHEUS"))
	if address == "" {
		return nil, hint.With(ErrNoPrometheus, "use --prometheus http://HOST:9090 or set SQUALL_PROMETHEUS; without it "+cmp.Or(p.Purpose, "the hypothesis cannot be checked"))
	}
	client, err := prom.New(address, p.httpConfig)
	if err != nil {
		return nil, hint.With(err, "use --prometheus http://HOST:9090, and --prometheus-http-config for credentials")
	}
	return client, nil
}
