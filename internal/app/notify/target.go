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

// Load reads a file with one URL a line: https://, or one of shoutrrr's. Empty
// lines, and those that begin with #, are skipped. An error names lines and never
// shows what they hold.
func Load(file string) ([]string, error) {
	data, err := os.ReadFile(file) //nolint:gosec // whoever runs squall names the file
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

// public are the services in whose URLs the host is one, not a part of a token.
//
//nolint:gochecknoglobals // a table
var public = []string{"generic", "gotify", "matrix", "mattermost", "ntfy", "rocketchat", "signal", "smtp", "zulip"}

// titled are the services that show a title of shoutrrr's, or none, unless they
// are given one.
//
//nolint:gochecknoglobals // a table
var titled = []string{"bark", "gotify", "join", "ntfy", "pushbullet", "pushover", "smtp"}

// parse makes a sender of a URL, and a name that holds no secret.
func parse(raw string, client *http.Client) (name string, s sender, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", nil, errors.New("this is not a URL; " + page + " has the forms")
	}
	if u.Scheme == "http" || u.Scheme == "https" {
		return u.Scheme + "://" + u.Host, &webhook{client: client, url: raw}, checkHTTP(u)
	}
	var library router.ServiceRouter
	scheme, _, _ := strings.Cut(u.Scheme, "+")
	// The logger would swallow everything: nobody reads shoutrrr's log.
	if scheme == "logger" || !slices.Contains(library.ListServices(), scheme) {
		// What stands there may be a token, so it is not shown.
		return "", nil, errors.New("the URL begins with the name of no known service; " + page + " has the forms")
	}
	name = scheme
	if slices.Contains(public, scheme) && u.Host != "" {
		name += "://" + u.Host
	}
	query := u.Query()
	s, err = locate(scheme, raw, u, client)
	if err != nil {
		return "", nil, fmt.Errorf("%s does not accept the rest of the URL; %s has the forms", scheme, page)
	}
	if s, ok := s.(*service); ok {
		s.title = slices.Contains(titled, scheme) && !query.Has("title") && !query.Has("subject")
	}
	return name, s, nil
}

var errPanic = errors.New("shoutrrr panicked")

// locate checks a URL of a service of shoutrrr's, without a word to anybody.
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
		// To initialize it is to log in: a server that is down must not keep squall
		// from starting.
		var m matrix.Service
		login := func() error { return m.Initialize(u, util.DiscardLogger) }
		return &service{Service: &m, login: login}, new(matrix.Config).SetURL(u)
	}
	var library router.ServiceRouter
	located, err := library.Locate(raw)
	return &service{Service: located}, err
}

// service is one of shoutrrr's. They take no context, and some wait for ever, so
// a message that has not come back is waited for again: it is never sent twice at
// once, and one that hangs holds one goroutine, not more.
type service struct {
	types.Service
	// login is what is left to do before the first message, or nil.
	login func() error
	// title says to give it one.
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
		params.SetTitle(m.headline())
	}
	result := make(chan error, 1)
	s.sending, s.result = m, result
	go func() {
		// Zulip's panics when its server cannot be reached, and must not end all runs.
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
