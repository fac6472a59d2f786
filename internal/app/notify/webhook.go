package notify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/squall-chaos/squall/internal/outbound"
)

// newClient returns a client that follows no redirects: it would change a POST to a
// GET, which may succeed.
func newClient() *http.Client {
	return &http.Client{
		Transport: outbound.Bounded(&http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: timeout,
			IdleConnTimeout:     time.Minute,
		}, maxAnswer),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// webhook posts events as JSON.
type webhook struct {
	client *http.Client
	url    string
}

// body is the JSON for a webhook: the event, its time, and the text for people.
type body struct {
	Event
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

func (w *webhook) send(ctx context.Context, m *message) error {
	return call(ctx, w.client, http.MethodPost, w.url, "", body{Event: m.Event, Time: m.at.UTC(), Text: m.text()}, nil)
}

// maxAnswer is the longest answer in bytes.
const maxAnswer = 1 << 20

// call sends JSON, and decodes the answer into result unless that is nil.
func call(ctx context.Context, client *http.Client, method, address, token string, content, result any) error {
	data, err := json.Marshal(content)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(data))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "squall")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if response.StatusCode >= http.StatusMultipleChoices {
		f := status(response.StatusCode)
		f.retryAfter = retryAfter(response.Header.Get("Retry-After"), time.Now())
		return f
	}
	if result == nil {
		return nil // accepted; the answer does not matter
	}
	if err = cmp.Or(err, json.Unmarshal(answer, result)); err != nil {
		return &failure{text: "its answer is not the expected JSON", final: true}
	}
	return nil
}

// retryAfter parses the header, which has seconds or a date.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(header); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// checkHTTP checks a URL. Its error does not contain the URL.
func checkHTTP(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("it must begin with http:// or https://")
	case u.Hostname() == "":
		return fmt.Errorf("no host after %s://", u.Scheme)
	}
	return nil
}
