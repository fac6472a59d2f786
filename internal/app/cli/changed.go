package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// changedFlag is --only-changed: the commit that a branch is compared with.
type changedFlag struct {
	base  string
	given bool
}

func (c *changedFlag) add(command *cobra.Command) {
	command.Flags().Var(c, "only-changed", "only files that differ from where HEAD left this branch, tag or commit, by commits or in the working tree")
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

// load loads as loadSelected does, but only the files that are touched. Where the
// flag is given there may be none.
func (c *changedFlag) load(ctx context.Context, env Env, arguments []string, selector string) ([]loaded, error) {
	if !c.given {
		return loadSelected(env, arguments, selector)
	}
	files, err := c.files(ctx, arguments)
	if err != nil {
		return nil, err
	}
	all, problems := loadFiles(env, files)
	if len(problems) > 0 {
		return nil, problems
	}
	return selected(all, selector)
}

// files gives the files among the arguments and in their directories that differ
// from the base; all arguments where the flag is not given. The error is of type
// experiments.Problems when an argument is bad.
func (c *changedFlag) files(ctx context.Context, arguments []string) ([]string, error) {
	switch {
	case !c.given:
		return arguments, nil
	case c.base == "":
		return nil, &hintedError{errors.New("--only-changed: the name of the commit is empty"), "--only-changed origin/main"}
	case strings.HasPrefix(c.base, "-"):
		return nil, &hintedError{fmt.Errorf("--only-changed: %q begins with a dash, as no commit does", c.base), "--only-changed origin/main"}
	case slices.Contains(arguments, stdinName):
		return nil, &hintedError{errors.New("--only-changed: git does not know whether the standard input (-) has changed"), "name files, or leave --only-changed out"}
	}
	files, problems := expand(arguments)
	if len(problems) > 0 {
		return nil, problems
	}
	return c.touched(ctx, files)
}

// touched gives those of the files that differ from the base.
func (c *changedFlag) touched(ctx context.Context, files []string) (touched []string, err error) {
	changed := map[string]map[string]bool{} // by folder
	relinked := map[string]bool{}           // by link
	for _, file := range files {
		links, end, err := follow(file)
		keep := err != nil // loading the file says what is wrong with it
		if end != "" {
			folder := filepath.Dir(end)
			if changed[folder] == nil {
				if changed[folder], err = changedIn(ctx, folder, c.base); err != nil {
					return nil, err
				}
			}
			keep = keep || changed[folder][end]
		}
		for _, link := range links {
			if _, known := relinked[link]; !known {
				// One that is in no repository, or in another one, cannot have changed.
				inside, _ := changedIn(ctx, filepath.Dir(link), c.base)
				relinked[link] = inside[link]
			}
			keep = keep || relinked[link]
		}
		if keep {
			touched = append(touched, file)
		}
	}
	return touched, nil
}

// follow gives what decides which content a file has: the symbolic links on the
// way to it, and where the way ends. None of these paths has a link before its
// last name. The end is empty, without an error, when a link leads nowhere: that
// is a change only when the link is one.
func follow(file string) (links []string, end string, err error) {
	if _, err := os.Lstat(file); err != nil {
		return nil, "", err
	}
	if !filepath.IsAbs(file) { // filepath.Abs would drop a link before ..
		here, err := os.Getwd()
		if err != nil {
			return nil, "", err
		}
		file = here + separator + file
	}
	at, ahead := filepath.VolumeName(file)+separator, steps(file)
	for len(ahead) > 0 {
		name := ahead[0]
		ahead = ahead[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			return links, "", nil //nolint:nilerr // the way ends here
		case info.Mode()&os.ModeSymlink == 0:
			at = next
			continue
		case len(links) == mostLinks:
			return links, "", nil
		}
		links = append(links, next)
		target, err := os.Readlink(next)
		if err != nil {
			return nil, "", err
		}
		if filepath.IsAbs(target) {
			at = filepath.VolumeName(target) + separator
		}
		ahead = append(steps(target), ahead...)
	}
	return links, at, nil
}

// mostLinks is where links that lead to each other are given up, as
// filepath.EvalSymlinks does.
const mostLinks = 255

const separator = string(filepath.Separator)

// steps gives the names in a path, which need not be clean: what .. means after a
// link is decided by where the link leads.
func steps(name string) []string {
	return slices.DeleteFunc(strings.Split(filepath.ToSlash(name[len(filepath.VolumeName(name)):]), "/"), func(one string) bool { return one == "" || one == "." })
}

// historyHint is the next step when a clone lacks commits, as those of CI systems
// do.
const historyHint = "name a branch, tag or hash that this clone has; in CI fetch the whole history (fetch-depth: 0, GIT_DEPTH: 0)"

// changedIn gives the files in a folder, by their absolute paths, that differ from
// where HEAD left the base: what was committed since, what was not, and what git
// does not track and does not ignore.
func changedIn(ctx context.Context, folder, base string) (map[string]bool, error) {
	inside, err := git(ctx, folder, "rev-parse", "--is-inside-work-tree")
	if err == nil && strings.TrimSpace(inside) != "true" {
		err = fmt.Errorf("--only-changed: %s is not in a working tree of git", folder)
	}
	if _, hinted := errors.AsType[*hintedError](err); err != nil && !hinted {
		err = &hintedError{err, "run it on files of a clone, or leave --only-changed out"}
	}
	if err != nil {
		return nil, err
	}
	// With its hash the base can be neither an option nor a range.
	commit, err := git(ctx, folder, "rev-parse", "--verify", "--quiet", base+"^{commit}")
	if err != nil || strings.HasPrefix(commit, "^") {
		return nil, &hintedError{fmt.Errorf("--only-changed: git knows no commit %q in %s", base, folder), historyHint}
	}
	fork, err := git(ctx, folder, "merge-base", strings.TrimSpace(commit), "HEAD")
	if err != nil {
		return nil, &hintedError{fmt.Errorf("--only-changed: this clone does not show where HEAD and %s parted", base), historyHint}
	}
	changed := map[string]bool{}
	for _, command := range [][]string{
		{"diff", "--name-only", "-z", "--relative", "--no-renames", strings.TrimSpace(fork), "--"},
		{"ls-files", "-z", "--others", "--exclude-standard"},
	} {
		names, err := git(ctx, folder, command...)
		if err != nil {
			return nil, err
		}
		for name := range strings.SplitSeq(names, "\x00") {
			changed[filepath.Join(folder, filepath.FromSlash(name))] = true
		}
	}
	return changed, nil
}

// git runs git in a folder and gives what it prints.
func git(ctx context.Context, folder string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, "git", append([]string{"-C", folder}, arguments...)...) //nolint:gosec // no shell, and no option comes from outside
	command.Env = gitEnvironment(os.Environ())
	out, err := command.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", &hintedError{errors.New("--only-changed: there is no git program"), "install git, or leave --only-changed out"}
	}
	if failure, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(failure.Stderr)), "\n")
		return "", fmt.Errorf("--only-changed: git in %s: %s", folder, strings.TrimPrefix(line, "fatal: "))
	}
	return string(out), err
}

// gitEnvironment leaves out what would point git at another repository than that
// of the files, as in a hook, and lets it write nothing.
func gitEnvironment(environment []string) []string {
	other := []string{
		"GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_PREFIX", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
		"GIT_NAMESPACE", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_REPLACE_REF_BASE", "GIT_NO_REPLACE_OBJECTS", "GIT_DIFF_OPTS",
	}
	kept := slices.DeleteFunc(slices.Clone(environment), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(other, name)
	})
	return append(kept, "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
}
