// Package prom queries a server that speaks the Prometheus HTTP API.
package prom

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Client evaluates queries. It is safe for concurrent use.
type Client struct {
	address string
	api     promv1.API
}

var _ steadystate.Querier = (*Client)(nil)

// New makes a client for a server's base URL; nothing is sent yet.
func New(address string) (*Client, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		// Not repeated: it may hold a password.
		return nil, errors.New("that is not the URL of a Prometheus server")
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the default HTTP transport is not the standard one")
	}
	client, err := api.NewClient(api.Config{Address: address, RoundTripper: transport.Clone()})
	if err != nil {
		return nil, fmt.Errorf("prometheus client for %s: %w", parsed.Redacted(), err)
	}
	return &Client{address: parsed.Redacted(), api: promv1.NewAPI(client)}, nil
}

// Address gives the server's URL without a password.
func (c *Client) Address() string { return c.address }

// retryAfter is the pause before the one retry of a query that failed for a
// reason that may pass.
const retryAfter = 100 * time.Millisecond

// Query evaluates PromQL at the server's present time, so that a difference
// between the clocks does not matter. A server that does not answer or that
// fails is asked once more.
func (c *Client) Query(ctx context.Context, promql string) ([]steadystate.Sample, error) {
	value, err := c.query(ctx, promql)
	if err != nil && mayPass(err) {
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
			value, err = c.query(ctx, promql)
		}
	}
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
			samples[i] = steadystate.Sample{Labels: labels, Value: float64(s.Value)}
		}
		return samples, nil
	case *model.Scalar:
		return []steadystate.Sample{{Value: float64(v.Value)}}, nil
	default:
		return nil, fmt.Errorf("the query gives a %s, not a number", value.Type())
	}
}

func (c *Client) query(ctx context.Context, promql string) (model.Value, error) {
	value, warnings, err := c.api.Query(ctx, promql, time.Time{})
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
