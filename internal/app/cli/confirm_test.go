package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/hint"
)

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "Yes \n": true, "y": true, "n\n": false, "\n": false, "": false, "yup\n": false} {
		var stderr bytes.Buffer
		err := confirm(t.Context(), Env{Stdin: strings.NewReader(answer), Stderr: &stderr}, "abort all calls?")
		if (err == nil) != want || err != nil && hint.Of(err) == "" {
			t.Errorf("%q: %v", answer, err)
		}
		if text := stderr.String(); text != "squall: abort all calls?\nsquall: continue? [y/N] " {
			t.Errorf("%q", text)
		}
	}
}

// A signal ends the wait for an answer.
func TestConfirmEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	input, output := io.Pipe()
	defer output.Close() //nolint:errcheck // never fails
	err := confirm(ctx, Env{Stdin: input, Stderr: io.Discard}, "abort all calls?")
	if ended, ok := errors.AsType[*exit.Error](err); !ok || ended.Code != exit.Interrupted {
		t.Errorf("error %v", err)
	}
}

// A script is not asked.
func TestOnTerminal(t *testing.T) {
	if (Env{Stdin: strings.NewReader(""), Stderr: io.Discard}).OnTerminal() {
		t.Error("a reader is taken for a terminal")
	}
}
