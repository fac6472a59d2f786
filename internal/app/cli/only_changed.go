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

// changedFlag is --only-changed, the base that the working tree is compared with.
type changedFlag struct {
	base  string
	given bool
}

func (c *changedFlag) add(flags *pflag.FlagSet) {
	flags.Var(c, "only-changed", "only files that differ from the merge base of HEAD and this branch, tag or commit")
}

// Set implements pflag.Value. An empty base counts as given: a shell variable that is
// not set must not select all files.
func (c *changedFlag) Set(base string) error {
	c.base, c.given = base, true
	return nil
}

// String implements pflag.Value.
func (c *changedFlag) String() string { return c.base }

// Type implements pflag.Value.
func (c *changedFlag) Type() string { return "BASE" }

// files returns the changed files among the arguments and in their directories, and
// all arguments if the flag is not given. The error is of type problem.List
// if an argument is invalid.
func (c *changedFlag) files(ctx context.Context, arguments []string) ([]string, error) {
	switch {
	case !c.given:
		return arguments, nil
	case c.base == "":
		return nil, hint.With(errors.New("--only-changed is empty"), "name a branch, tag or commit, such as --only-changed origin/main")
	case strings.HasPrefix(c.base, "-"):
		return nil, hint.With(fmt.Errorf("--only-changed: %q is not a commit", c.base), "name a branch, tag or commit, such as --only-changed origin/main")
	case slices.Contains(arguments, stdinName):
		return nil, hint.With(errors.New("--only-changed cannot be used with the standard input (-)"), "name files, or leave out --only-changed")
	}
	files, problems := expand(arguments)
	if len(problems) > 0 {
		return nil, problems
	}
	changed, err := gitchanges.Among(ctx, c.base, files)
	if err != nil {
		err = fmt.Errorf("--only-changed: %w", err)
	}
	return changed, err
}
