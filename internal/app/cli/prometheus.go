package cli

import (
	"cmp"
	"errors"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/steady-state/prom"
)

// prometheusFlags say which Prometheus a command asks, and how.
type prometheusFlags struct{ address, httpConfig string }

func (p *prometheusFlags) add(flags *pflag.FlagSet) {
	// The variable is not the flag's default, which --help would print with its
	// password.
	flags.StringVar(&p.address, "prometheus", "", "URL of the Prometheus server, or of what speaks its API: Thanos, Mimir (or SQUALL_PROMETHEUS)")
	flags.StringVar(&p.httpConfig, "prometheus-http-config", "", "file with an http_config of Prometheus: authorization, basic_auth, oauth2, tls_config, http_headers")
}

// errNoPrometheus says that no server is named.
var errNoPrometheus = errors.New("no Prometheus server is named")

// client makes a client; nothing is sent yet. An error is one of usage.
func (p *prometheusFlags) client(env Env) (*prom.Client, error) {
	address := cmp.Or(p.address, env.Getenv("SQUALL_PROMETHEUS"))
	if address == "" {
		return nil, hint.With(errNoPrometheus, "--prometheus http://HOST:9090 or SQUALL_PROMETHEUS; without it nothing would notice that the system suffers")
	}
	client, err := prom.New(address, p.httpConfig)
	if err != nil {
		return nil, hint.With(err, "--prometheus http://HOST:9090, and --prometheus-http-config where it wants more")
	}
	return client, nil
}
