package notify

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplain(t *testing.T) {
	for _, test := range []struct {
		err   error
		text  string
		final bool
	}{
		{fmt.Errorf("sending: %w", &textproto.Error{Code: 535, Msg: "bad password s3cr3t"}), "the mail server answered 535", true},
		{fmt.Errorf("sending: %w", &textproto.Error{Code: 451, Msg: "later"}), "the mail server answered 451", false},
		{fmt.Errorf("sending: %w", context.DeadlineExceeded), "no answer within 10s", false},
		{errors.New("webhook response failure: no_service"), "it answered no_service", true},
		{errors.New("webhook response failure: ratelimited"), "ratelimited", false},
		{errors.New(`Post "https://hooks.slack.com/s3cr3t": dial tcp: lookup hooks.slack.com: no such host`), "no such host", false},
		{errors.New("unexpected status 404 Not Found"), "it answered 404 Not Found", true},
		{errors.New("token s3cr3t404 is wrong"), "it was refused; the reason is not printed because it may contain a secret", false},
	} {
		got := explain(test.err)
		if diff := cmp.Diff(failure{text: test.text, final: test.final}, *got, cmp.AllowUnexported(failure{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.err, diff)
		}
	}
}
