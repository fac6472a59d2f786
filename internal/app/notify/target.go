package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/matrix"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
	"github.com/nicholas-fedor/shoutrrr/pkg/util"
)

const page = "docs/reference/notifications.md"

// Load reads a file with one URL a line: https://, or one of shoutrrr. Empty lines,
// and lines that begin with #, are skipped. An error has the numbers of lines, and
// never their content.
func Load(file string) ([]string, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	var (
		urls     []string
		problems []error
		line     int
	)
	for text := range strings.Lines(string(data)) {
		line++
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if _, _, err := parse(text, nil); err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %w", file, line, err))
		}
		urls = append(urls, text)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return urls, nil
}

// public lists the services whose URLs have a host that is not a part of a token.
//
//nolint:gochecknoglobals // a table
var public = []string{"generic", "gotify", "matrix", "mattermost", "ntfy", "rocketchat", "signal", "smtp", "zulip"}

// titled lists the services that show a default title unless a title is set.
//
//nolint:gochecknoglobals // a table
var titled = []string{"bark", "gotify", "join", "ntfy", "pushbullet", "pushover", "smtp"}

// parse returns the sender for a URL, and a name without secrets.
func parse(raw string, client *http.Client) (name string, s sender, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", nil, errors.New("this is not a URL; " + page + " lists the formats")
	}
	if u.Scheme == "http" || u.Scheme == "https" {
		return u.Scheme + "://" + u.Host, &webhook{client: client, url: raw}, checkHTTP(u)
	}
	var library router.ServiceRouter
	scheme, _, _ := strings.Cut(u.Scheme, "+")
	// The service logger only writes to shoutrrr's log, which is discarded.
	if scheme == "logger" || !slices.Contains(library.ListServices(), scheme) {
		// The scheme may be a token, so it is not printed.
		return "", nil, errors.New("the URL begins with an unknown service; " + page + " lists the formats")
	}
	name = scheme
	if slices.Contains(public, scheme) && u.Host != "" {
		name += "://" + u.Host
	}
	query := u.Query()
	s, err = locate(scheme, raw, u, client)
	if err != nil {
		return "", nil, fmt.Errorf("%s does not accept this URL; %s lists the formats", scheme, page)
	}
	if s, ok := s.(*service); ok {
		s.title = slices.Contains(titled, scheme) && !query.Has("title") && !query.Has("subject")
	}
	return name, s, nil
}

var errPanic = errors.New("shoutrrr panicked")

// locate parses a shoutrrr URL without sending anything.
func locate(scheme, raw string, u *url.URL, client *http.Client) (s sender, err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	switch scheme {
	case telegram.Scheme:
		var config telegram.Config
		config.Preview, config.Notification = true, true
		err = config.SetURL(u)
		return newTelegram(&config, client), err
	case matrix.Scheme:
		// Initialize would log in. A server that is down must not prevent the start of
		// squall.
		var m matrix.Service
		login := func() error { return m.Initialize(u, util.DiscardLogger) }
		return &service{Service: &m, login: login}, new(matrix.Config).SetURL(u)
	}
	var library router.ServiceRouter
	located, err := library.Locate(raw)
	return &service{Service: located}, err
}

// service is a service of shoutrrr. These take no context, and some never return, so
// the result of a message is awaited again in the next attempt: a message is never
// sent twice at the same time, and one that hangs blocks a single goroutine.
type service struct {
	types.Service
	// login is the remaining initialization before the first message, or nil.
	login func() error
	// title reports whether the service needs a title.
	title bool

	sending *message
	result  chan error
}

func (s *service) send(ctx context.Context, m *message) error {
	if s.sending != nil && s.sending != m {
		if err := s.wait(ctx); ctx.Err() != nil {
			return err
		}
	}
	if s.sending == nil {
		s.begin(m)
	}
	return s.wait(ctx)
}

func (s *service) begin(m *message) {
	params := types.Params{}
	if s.title {
		params.SetTitle(unmentioned(m.headline()))
	}
	result := make(chan error, 1)
	s.sending, s.result = m, result
	go func() {
		// The service Zulip panics if its server cannot be reached.
		defer func() {
			if recover() != nil {
				result <- &failure{text: errPanic.Error()}
			}
		}()
		result <- s.deliver(m.text(), &params)
	}()
}

func (s *service) deliver(text string, params *types.Params) error {
	if s.login != nil {
		if err := s.login(); err != nil {
			return err
		}
		s.login = nil
	}
	return s.Send(text, params)
}

func (s *service) wait(ctx context.Context) error {
	select {
	case err := <-s.result:
		s.sending = nil
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
