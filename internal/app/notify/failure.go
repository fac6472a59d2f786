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

// failure is the reason for a failed attempt, in a text without secrets.
type failure struct {
	text string
	// final reports that a retry would fail in the same way.
	final bool
	// retryAfter is how long the target asks to wait before the next request.
	retryAfter time.Duration
}

func (f *failure) Error() string { return f.text }

// status returns the failure for an HTTP status.
func status(code int) *failure {
	f := &failure{text: strings.TrimSpace(fmt.Sprintf("it answered %d %s", code, http.StatusText(code)))}
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		f.final = code < http.StatusInternalServerError
	}
	return f
}

// statusPattern matches a status in the errors of shoutrrr's services.
var statusPattern = regexp.MustCompile(`(?i)(?:status|status code|failed|unexpected):? "?([345]\d\d)(?:\D|$)`)

// phrases are the parts of error texts that are reported: they have a meaning and
// cannot be a secret. A whole text is never reported, because net/http and shoutrrr
// include URLs with their tokens, and a server may return one.
//
//nolint:gochecknoglobals // a table
var phrases = []string{
	"no such host", "connection refused", "connection reset by peer", "broken pipe", "network is unreachable",
	"no route to host", "certificate signed by unknown authority", "certificate has expired", "failed to verify certificate",
	"server gave HTTP response to HTTPS client", "first record does not look like a TLS handshake", "TLS handshake timeout",
	"remote error: tls", "unsupported protocol scheme", "proxyconnect", "too many open files", "i/o timeout", "Client.Timeout exceeded",
	"context deadline exceeded", "unexpected EOF", " EOF", "ratelimited", "rate_limited", "malformed HTTP response", "server does not support StartTLS",
}

// answers are final errors of Slack.
//
//nolint:gochecknoglobals // a table
var answers = []string{
	"invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive", "missing_scope", "channel_not_found",
	"not_in_channel", "channel_is_archived", "is_archived", "no_service", "no_active_hooks", "invalid_token", "invalid_payload",
	"action_prohibited", "posting_to_general_channel_denied", "restricted_action", "user_not_found", "team_disabled",
}

// explain describes an error without its text.
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
	return &failure{text: "it was refused; the reason is not printed because it may contain a secret"}
}
