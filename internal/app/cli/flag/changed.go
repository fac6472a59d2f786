package flag

import "github.com/spf13/pflag"

// Changed is --only-changed, the base that the working tree is compared with.
type Changed struct {
	// Base is the branch, tag or commit. It may be empty.
	Base string
	// Given is whether the flag is given.
	Given bool
}

// Add adds the flag.
func (c *Changed) Add(flags *pflag.FlagSet) {
	flags.Var(c, "only-changed", "only files that differ from the merge base of HEAD and this branch, tag or commit")
}

// Set implements pflag.Value. An empty base counts as given: a shell variable that is
// not set must not select all files.
func (c *Changed) Set(base string) error {
	c.Base, c.Given = base, true
	return nil
}

// String implements pflag.Value.
func (c *Changed) String() string { return c.Base }

// Type implements pflag.Value.
func (c *Changed) Type() string { return "BASE" }

// Selector adds the flag --selector.
func Selector(flags *pflag.FlagSet, selector *string) {
	flags.StringVarP(selector, "selector", "l", "", "only experiments with these labels, as for kubectl: team=reviews,tier!=demo")
}
