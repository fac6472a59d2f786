// Package prom queries a server that speaks the Prometheus HTTP API.
package prom

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/squall-chaos/squall/internal/sleep"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Client evaluates queries. It is safe for concurrent use.
type Client struct {
	address string
	api     promv1.API
}

var _ steadystate.Querier = (*Client)(nil)

// New makes a client for a server's base URL, which may have a path; nothing is
// sent yet. The file, if one is named, is an http_config as Prometheus' own
// configuration has it: authorization, basic_auth, oauth2, tls_config,
// http_headers, proxies.
func New(address, httpConfig string) (*Client, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		// Not repeated: it may hold a password.
		return nil, errors.New("that is not the URL of a Prometheus server")
	}
	transport, err := roundTripper(httpConfig)
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(api.Config{Address: address, RoundTripper: transport})
	if err != nil {
		return nil, fmt.Errorf("prometheus client for %s: %w", parsed.Redacted(), err)
	}
	return &Client{address: parsed.Redacted(), api: promv1.NewAPI(client)}, nil
}

// roundTripper makes a transport of its own. The secrets that the file names are
// read again when they change.
func roundTripper(httpConfig string) (http.RoundTripper, error) {
	if httpConfig == "" {
		transport, ok := http.DefaultTransport.(*http.Transport)
		if !ok {
			return nil, errors.New("the default HTTP transport is not the standard one")
		}
		return transport.Clone(), nil
	}
	content, err := os.ReadFile(httpConfig) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("http_config: %w", err)
	}
	loaded, err := config.LoadHTTPConfig(string(content))
	if err != nil {
		return nil, fmt.Errorf("http_config %s: %s", httpConfig, quoted.ReplaceAllString(err.Error(), "`...`"))
	}
	loaded.SetDirectory(filepath.Dir(httpConfig))
	transport, err := config.NewRoundTripperFromConfig(*loaded, "squall", config.WithUserAgent("squall"))
	if err != nil {
		return nil, fmt.Errorf("http_config %s: %w", httpConfig, err)
	}
	return transport, nil
}

// quoted is what the YAML decoder repeats of a file in its errors: perhaps a
// password.
var quoted = regexp.MustCompile("`[^`]*`")

// Address gives the server's URL without a password.
func (c *Client) Address() string { return c.address }

// retryAfter is the pause before the one retry of a query that failed for a
// reason that may pass.
const retryAfter = 100 * time.Millisecond

// Query evaluates PromQL at the server's present time, so that a difference
// between the clocks does not matter. A server that does not answer or that
// fails is asked once more.
func (c *Client) Query(ctx context.Context, promql string) ([]steadystate.Sample, error) {
	value, err := twice(ctx, func() (model.Value, error) { return c.query(ctx, promql) })
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	switch v := value.(type) {
	case model.Vector:
		samples := make([]steadystate.Sample, len(v))
		for i, s := range v {
			if s.Histogram != nil {
				return nil, errors.New("the query gives a native histogram, not a number; take histogram_quantile of it")
			}
			labels := make(map[string]string, len(s.Metric))
			for name, value := range s.Metric {
				labels[string(name)] = string(value)
			}
			samples[i] = steadystate.Sample{Labels: labels, Value: float64(s.Value), Time: s.Timestamp.Time()}
		}
		return samples, nil
	case *model.Scalar:
		return []steadystate.Sample{{Value: float64(v.Value), Time: v.Timestamp.Time()}}, nil
	default:
		return nil, fmt.Errorf("the query gives a %s, not a number", value.Type())
	}
}

// twice asks once more when the first failure may pass.
func twice[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	answer, err := ask()
	if err != nil && mayPass(err) && sleep.For(ctx, retryAfter) {
		return ask()
	}
	return answer, err
}

func (c *Client) query(ctx context.Context, promql string) (model.Value, error) {
	value, warnings, err := c.api.Query(ctx, promql, time.Time{})
	// Servers before Prometheus 2.54 send as warnings what they only remark, such
	// as that a metric's name is not that of a counter (prometheus#14327).
	warnings = slices.DeleteFunc(warnings, func(warning string) bool { return strings.HasPrefix(warning, "PromQL info: ") })
	if err == nil && len(warnings) > 0 {
		// A sum over a part of the data looks like any other number.
		return nil, fmt.Errorf("the server warns: %s", strings.Join(warnings, "; "))
	}
	return value, err
}

// mayPass reports whether asking again makes sense: when the server did not
// answer or failed, but not when the query is wrong.
func mayPass(err error) bool {
	if failure, ok := errors.AsType[*promv1.Error](err); ok {
		return failure.Type == promv1.ErrServer
	}
	_, ok := errors.AsType[*url.Error](err)
	return ok
}

// explain says in one line what went wrong.
func (c *Client) explain(ctx context.Context, err error) error {
	var failure *promv1.Error
	var transport *url.Error
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s did not answer in time", c.address)
	case errors.As(err, &failure) && failure.Type == promv1.ErrServer:
		return fmt.Errorf("%s fails: %s", c.address, failure.Msg)
	case errors.As(err, &failure) && failure.Type == promv1.ErrBadResponse:
		return fmt.Errorf("%s does not answer like Prometheus: %s", c.address, failure.Msg)
	case errors.As(err, &failure):
		return fmt.Errorf("%s refuses the query: %s", c.address, failure.Msg)
	case errors.As(err, &transport):
		return fmt.Errorf("%s does not answer: %w", c.address, transport.Err)
	default:
		return fmt.Errorf("%s: %w", c.address, err)
	}
}
