// Package prom queries servers with the Prometheus HTTP API.
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

	"github.com/squall-chaos/squall/internal/outbound"
	"github.com/squall-chaos/squall/internal/sleep"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Client evaluates queries. It is safe for concurrent use.
type Client struct {
	address string
	api     promv1.API
}

var _ steadystate.Querier = (*Client)(nil)

// New returns a client for a server's base URL, which may have a path. It sends
// no request. httpConfig is the name of a file, or empty. The file is an
// http_config of Prometheus: authorization, basic_auth, oauth2, tls_config,
// http_headers, proxies. New returns an error if the URL or the file is not valid.
func New(address, httpConfig string) (*Client, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		// The error of the URL is dropped, because it may contain a password.
		return nil, errors.New("this is not the URL of a Prometheus server")
	}
	client, err := newClient(parsed, httpConfig)
	if err != nil {
		return nil, err
	}
	connected, err := api.NewClient(api.Config{Address: address, Client: client})
	if err != nil {
		return nil, fmt.Errorf("prometheus client for %s: %w", parsed.Redacted(), err)
	}
	return &Client{address: parsed.Redacted(), api: promv1.NewAPI(connected)}, nil
}

// maxAnswer is the longest answer of a server in bytes, after it is unpacked.
const maxAnswer = 4 << 20

// newClient returns a client with the settings of the file. Files with secrets are
// read again when they change. Credentials are sent to the server only, not to
// where it redirects.
func newClient(server *url.URL, httpConfig string) (*http.Client, error) {
	if httpConfig == "" {
		transport, ok := http.DefaultTransport.(*http.Transport)
		if !ok {
			return nil, errors.New("the default HTTP transport is not an *http.Transport")
		}
		return &http.Client{Transport: outbound.Bounded(transport.Clone(), maxAnswer)}, nil
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
	var transports [2]http.RoundTripper
	for i, settings := range []config.HTTPClientConfig{*loaded, withoutCredentials(*loaded)} {
		if transports[i], err = config.NewRoundTripperFromConfig(settings, "squall", config.WithUserAgent("squall")); err != nil {
			return nil, fmt.Errorf("http_config %s: %w", httpConfig, err)
		}
	}
	client := &http.Client{Transport: outbound.Bounded(outbound.ForOrigin(server, transports[0], transports[1]), maxAnswer)}
	if !loaded.FollowRedirects {
		client.CheckRedirect = outbound.FollowNone
	}
	return client, nil
}

// withoutCredentials returns the settings without anything that identifies the
// client.
func withoutCredentials(c config.HTTPClientConfig) config.HTTPClientConfig {
	c.BasicAuth, c.Authorization, c.OAuth2, c.HTTPHeaders = nil, nil, nil, nil
	c.BearerToken, c.BearerTokenFile = "", ""
	c.TLSConfig.Cert, c.TLSConfig.Key = "", ""
	c.TLSConfig.CertFile, c.TLSConfig.KeyFile = "", ""
	c.TLSConfig.CertRef, c.TLSConfig.KeyRef = "", ""
	return c
}

// quoted matches the parts of a file that the YAML decoder repeats in errors,
// which may be a password.
var quoted = regexp.MustCompile("`[^`]*`")

// Address returns the server's URL without a password.
func (c *Client) Address() string { return c.address }

// retryAfter is the pause before the one retry of a query after a temporary
// error.
const retryAfter = 100 * time.Millisecond

// Query evaluates PromQL at the server's current time, so that a difference
// between the clocks does not matter. It retries once if the server does not
// answer or fails. It returns an error if the result is neither a scalar nor a
// vector of numbers, or if the server sends a warning.
func (c *Client) Query(ctx context.Context, promql string) ([]steadystate.Sample, error) {
	value, err := twice(ctx, func() (model.Value, error) { return c.query(ctx, promql) })
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	switch v := value.(type) {
	case model.Vector:
		if len(v) >= maxSeries {
			return nil, fmt.Errorf("the query returns %d series or more", maxSeries)
		}
		samples := make([]steadystate.Sample, len(v))
		for i, s := range v {
			if s.Histogram != nil {
				return nil, errors.New("the query returns a native histogram, not a number; use histogram_quantile")
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
		return nil, fmt.Errorf("the query returns a %s, not a number", value.Type())
	}
}

// twice retries once after a temporary error.
func twice[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	answer, err := ask()
	if err != nil && mayPass(err) && sleep.For(ctx, retryAfter) {
		return ask()
	}
	return answer, err
}

// maxSeries is the number of series that a server is asked for at most. A server
// that does not know the parameter ignores it. An answer with so many may not be
// complete.
const maxSeries = 10_000

func (c *Client) query(ctx context.Context, promql string) (model.Value, error) {
	value, warnings, err := c.api.Query(ctx, promql, time.Time{}, promv1.WithLimit(maxSeries))
	// Servers before Prometheus 2.54 send remarks as warnings, for example that a
	// metric does not have the name of a counter (prometheus#14327).
	warnings = slices.DeleteFunc(warnings, func(warning string) bool { return strings.HasPrefix(warning, "PromQL info: ") })
	if err == nil && len(warnings) > 0 {
		// A partial response would be a wrong number without a sign of it.
		return nil, fmt.Errorf("the server warns: %s", short(strings.Join(warnings, "; ")))
	}
	return value, err
}

// mayPass reports whether an error may be temporary: the server did not answer
// or failed. An invalid query is not temporary.
func mayPass(err error) bool {
	if failure, ok := errors.AsType[*promv1.Error](err); ok {
		return failure.Type == promv1.ErrServer
	}
	if _, redirects := errors.AsType[*outbound.RedirectError](err); redirects {
		return false
	}
	_, ok := errors.AsType[*url.Error](err)
	return ok
}

// explain returns an error with the cause in one line.
func (c *Client) explain(ctx context.Context, err error) error {
	var failure *promv1.Error
	var transport *url.Error
	var redirect *outbound.RedirectError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s did not answer in time", c.address)
	case errors.As(err, &redirect):
		return fmt.Errorf("%s redirects to %s, and follow_redirects is false", c.address, redirect.To)
	case errors.As(err, &failure) && failure.Type == promv1.ErrServer:
		return fmt.Errorf("%s fails: %s", c.address, short(failure.Msg))
	case errors.As(err, &failure) && failure.Type == promv1.ErrBadResponse:
		return fmt.Errorf("%s does not answer like Prometheus: %s", c.address, short(failure.Msg))
	case errors.As(err, &failure):
		return fmt.Errorf("%s refuses the query: %s", c.address, short(failure.Msg))
	case errors.As(err, &transport):
		return fmt.Errorf("%s does not answer: %w", c.address, transport.Err)
	default:
		return fmt.Errorf("%s: %w", c.address, err)
	}
}

// maxMessage is the length in bytes of the longest text of a server in an error. A run
// records an error for each measurement.
const maxMessage = 1 << 10

func short(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "") + "..."
}

// Version returns the version of the server. It is empty for servers with another
// implementation of the API that have no version.
func (c *Client) Version(ctx context.Context) (string, error) {
	info, err := c.api.Buildinfo(ctx)
	if err != nil {
		return "", c.explain(ctx, err)
	}
	return info.Version, nil
}
