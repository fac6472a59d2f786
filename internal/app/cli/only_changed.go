package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/app/gitchanges"
	"github.com/squall-chaos/squall/internal/hint"
)

// changedFlag is --only-changed: the commit that a branch is compared with.
type changedFlag struct {
	base  string
	given bool
}

func (c *changedFlag) add(flags *pflag.FlagSet) {
	flags.Var(c, "only-changed", "only files that differ from where HEAD left this branch, tag or commit, by commits or in the working tree")
}

// Set implements pflag.Value. An empty base is one too: a variable that is not
// set must not let everything run.
func (c *changedFlag) Set(base string) error {
	c.base, c.given = base, true
	return nil
}

// String implements pflag.Value.
func (c *changedFlag) String() string { return c.base }

// Type implements pflag.Value.
func (c *changedFlag) Type() string { return "BASE" }

// files returns the files among the arguments and in their directories that differ
// from the base, and all arguments if the flag is not given. The error is of type
// problem.List if an argument is bad.
func (c *changedFlag) files(ctx context.Context, arguments []string) ([]string, error) {
	switch {
	case !c.given:
		return arguments, nil
	case c.base == "":
		return nil, hint.With(errors.New("--only-changed: the name of the commit is empty"), "--only-changed origin/main")
	case strings.HasPrefix(c.base, "-"):
		return nil, hint.With(fmt.Errorf("--only-changed: %q begins with a dash, as no commit does", c.base), "--only-changed origin/main")
	case slices.Contains(arguments, stdinName):
		return nil, hint.With(errors.New("--only-changed: git does not know whether the standard input (-) has changed"), "name files, or leave --only-changed out")
	}
	files, problems := expand(arguments)
	if len(problems) > 0 {
		return nil, problems
	}
	return gitchanges.Among(ctx, c.base, files)
}
