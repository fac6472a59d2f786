package hint_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/squall-chaos/squall/internal/hint"
)

func TestOf(t *testing.T) {
	cause := errors.New("no file")
	with := hint.With(cause, "name a file")
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{name: "nil", err: nil, want: ""},
		{name: "no hint", err: cause, want: ""},
		{name: "hint", err: with, want: "name a file"},
		{name: "wrapped", err: fmt.Errorf("run: %w", with), want: "name a file"},
		{name: "outermost", err: hint.With(with, "first"), want: "first"},
		{name: "joined", err: errors.Join(cause, with), want: "name a file"},
	} {
		if got := hint.Of(test.err); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if with.Error() != "no file" || !errors.Is(with, cause) {
		t.Errorf("%v does not wrap %v", with, cause)
	}
}
