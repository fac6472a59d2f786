package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/hint"
)

// errDeclined is the error of a question that was not answered with yes.
var errDeclined = errors.New("not confirmed; nothing was injected")

// confirm asks a question and returns nil if the answer is yes. It returns an error when
// ctx ends.
func confirm(ctx context.Context, env Env, question string) error {
	output.Line(env.Stderr, "squall: %s", question)
	fmt.Fprint(env.Stderr, "squall: continue? [y/N] ")
	answer := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(env.Stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			line = ""
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case text := <-answer:
		if text == "y" || text == "yes" {
			return nil
		}
		return hint.With(errDeclined, "--yes answers the question, and --percentage chooses a smaller share")
	case <-ctx.Done():
		fmt.Fprintln(env.Stderr)
		return exit.Failed(ctx, context.Cause(ctx))
	}
}
