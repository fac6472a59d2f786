package caller

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// abortBody is the body of an answer of Envoy's fault filter
// (source/extensions/filters/http/fault/fault_filter.cc).
const abortBody = "fault filter abort"

// MakeHTTP makes HTTP requests. A request that a fault delays is not counted as
// injected: its answer is the target's.
func MakeHTTP(ctx context.Context, calls Calls) (Result, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: calls.Count}
	if calls.Connect != "" {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, calls.Connect)
		}
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return spread(ctx, calls, func(ctx context.Context) outcome { return request(ctx, client, calls) })
}

func request(ctx context.Context, client *http.Client, calls Calls) outcome {
	start := time.Now()
	code, body, err := send(ctx, client, calls)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = "TIMEOUT"
	case err != nil:
		code = "ERROR"
	}
	return outcome{code: code, injected: strings.Contains(body, abortBody), took: time.Since(start)}
}

// send sends a request and returns the status and the body of the answer.
func send(ctx context.Context, client *http.Client, calls Calls) (code, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, calls.Method, "http://"+calls.Target+calls.Path, http.NoBody)
	if err != nil {
		return "", "", err
	}
	for key, value := range calls.Headers {
		if strings.EqualFold(key, "host") {
			request.Host = value
			continue
		}
		request.Header.Set(key, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close() //nolint:errcheck // read to the end or dropped
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return strconv.Itoa(response.StatusCode), string(content), err
}
