// Package gitchanges finds the files that differ from where a branch left another
// one.
package gitchanges

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/internal/hint"
)

// Among returns the files that differ from where HEAD left base: by what was
// committed since, what is not committed yet, and what git does not track and does
// not ignore. A file that cannot be read is returned too. The error has a hint.
func Among(ctx context.Context, base string, files []string) (touched []string, err error) {
	changed := map[string]map[string]bool{} // by folder
	relinked := map[string]bool{}           // by link
	for _, file := range files {
		links, end, err := follow(file)
		keep := err != nil // loading the file says what is wrong with it
		if end != "" {
			folder := filepath.Dir(end)
			if changed[folder] == nil {
				if changed[folder], err = changedIn(ctx, folder, base); err != nil {
					return nil, err
				}
			}
			keep = keep || changed[folder][end]
		}
		for _, link := range links {
			if _, known := relinked[link]; !known {
				// One that is in no repository, or in another one, cannot have changed.
				inside, _ := changedIn(ctx, filepath.Dir(link), base)
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
	if err != nil && hint.Of(err) == "" {
		err = hint.With(err, "run it on files of a clone, or leave --only-changed out")
	}
	if err != nil {
		return nil, err
	}
	// With its hash the base can be neither an option nor a range.
	commit, err := git(ctx, folder, "rev-parse", "--verify", "--quiet", base+"^{commit}")
	if err != nil || strings.HasPrefix(commit, "^") {
		return nil, hint.With(fmt.Errorf("--only-changed: git knows no commit %q in %s", base, folder), historyHint)
	}
	fork, err := git(ctx, folder, "merge-base", strings.TrimSpace(commit), "HEAD")
	if err != nil {
		return nil, hint.With(fmt.Errorf("--only-changed: this clone does not show where HEAD and %s parted", base), historyHint)
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
		return "", hint.With(errors.New("--only-changed: there is no git program"), "install git, or leave --only-changed out")
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
