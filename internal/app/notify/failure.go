package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// failure is why an attempt failed, in words that hold no secret.
type failure struct {
	text string
	// final says that trying again is of no use.
	final bool
	// retryAfter is how long the target asks to be left alone.
	retryAfter time.Duration
}

func (f *failure) Error() string { return f.text }

// status is the failure that an HTTP status stands for.
func status(code int) *failure {
	f := &failure{text: strings.TrimSpace(fmt.Sprintf("it answered %d %s", code, http.StatusText(code)))}
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		f.final = code < http.StatusInternalServerError
	}
	return f
}

// statusPattern finds a status in what shoutrrr's services say of one.
var statusPattern = regexp.MustCompile(`(?i)(?:status|status code|failed|unexpected):? "?([345]\d\d)(?:\D|$)`)

// phrases are what is told of an error: those parts of its text that mean
// something and cannot be a secret. A text is never told as it is, because net/http
// and shoutrrr put URLs with their tokens into theirs, and a server may return one.
//
//nolint:gochecknoglobals // a table
var phrases = []string{
	"no such host", "connection refused", "connection reset by peer", "broken pipe", "network is unreachable",
	"no route to host", "certificate signed by unknown authority", "certificate has expired", "failed to verify certificate",
	"server gave HTTP response to HTTPS client", "first record does not look like a TLS handshake", "TLS handshake timeout",
	"remote error: tls", "unsupported protocol scheme", "proxyconnect", "too many open files", "i/o timeout", "Client.Timeout exceeded",
	"context deadline exceeded", "unexpected EOF", " EOF", "ratelimited", "rate_limited", "malformed HTTP response", "server does not support StartTLS",
}

// answers are what Slack says, and trying again would not change it.
//
//nolint:gochecknoglobals // a table
var answers = []string{
	"invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive", "missing_scope", "channel_not_found",
	"not_in_channel", "channel_is_archived", "is_archived", "no_service", "no_active_hooks", "invalid_token", "invalid_payload",
	"action_prohibited", "posting_to_general_channel_denied", "restricted_action", "user_not_found", "team_disabled",
}

// explain says what an error means without showing it.
func explain(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &failure{text: fmt.Sprintf("no answer within %s", timeout)}
	}
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		return &failure{text: fmt.Sprintf("the mail server answered %d", reply.Code), final: reply.Code >= 500}
	}
	text := err.Error()
	if match := statusPattern.FindStringSubmatch(text); match != nil {
		if code, err := strconv.Atoi(match[1]); err == nil {
			return status(code)
		}
	}
	for _, answer := range answers {
		if strings.Contains(text, answer) {
			return &failure{text: "it answered " + answer, final: true}
		}
	}
	for _, phrase := range phrases {
		if strings.Contains(strings.ToLower(text), strings.ToLower(phrase)) {
			return &failure{text: strings.TrimSpace(phrase)}
		}
	}
	return &failure{text: "it was refused, for a reason that is not shown because it may hold a secret"}
}
