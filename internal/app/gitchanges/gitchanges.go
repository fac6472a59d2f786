// Package gitchanges finds the files that a branch has changed, with git.
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

// Among returns the files that differ from the merge base of base and HEAD:
// because of commits, of changes in the working tree, or because git does not track
// them and does not ignore them. It also returns files that do not exist. The error
// has a hint.
func Among(ctx context.Context, base string, files []string) (touched []string, err error) {
	changed := map[string]map[string]bool{} // by directory
	relinked := map[string]bool{}           // by link
	for _, file := range files {
		links, end, err := follow(file)
		keep := err != nil // loading the file reports the error
		if end != "" {
			directory := filepath.Dir(end)
			if changed[directory] == nil {
				if changed[directory], err = changedIn(ctx, directory, base); err != nil {
					return nil, err
				}
			}
			keep = keep || changed[directory][end]
		}
		for _, link := range links {
			if _, known := relinked[link]; !known {
				// A link outside a repository has not changed.
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

// follow resolves the symbolic links in the path of a file. It returns the links and
// the path at the end; only the last name of each of these paths may be a link. The
// end is empty, and the error nil, if a link is dangling: the file has changed only if
// the link has.
func follow(file string) (links []string, end string, err error) {
	if _, err := os.Lstat(file); err != nil {
		return nil, "", err
	}
	if !filepath.IsAbs(file) { // filepath.Abs would remove a link before ..
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
			return links, "", nil //nolint:nilerr // the link is dangling
		case info.Mode()&os.ModeSymlink == 0:
			at = next
			continue
		case len(links) == maxLinks:
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

// maxLinks limits the links of a path, for links in a circle. filepath.EvalSymlinks
// has the same limit.
const maxLinks = 255

const separator = string(filepath.Separator)

// steps returns the names in a path. It keeps "..": after a link it means the parent
// of the link's target.
func steps(name string) []string {
	return slices.DeleteFunc(strings.Split(filepath.ToSlash(name[len(filepath.VolumeName(name)):]), "/"), func(one string) bool { return one == "" || one == "." })
}

// historyHint is for clones that lack commits, as the clones of CI systems do.
const historyHint = "name a branch, tag or commit of this clone; in CI fetch the whole history (fetch-depth: 0, GIT_DEPTH: 0)"

// changedIn returns the changed files of a directory by their absolute paths.
func changedIn(ctx context.Context, directory, base string) (map[string]bool, error) {
	inside, err := git(ctx, directory, "rev-parse", "--is-inside-work-tree")
	if err == nil && strings.TrimSpace(inside) != "true" {
		err = fmt.Errorf("%s is not in a git working tree", directory)
	}
	if err != nil && hint.Of(err) == "" {
		err = hint.With(err, "use files of a clone")
	}
	if err != nil {
		return nil, err
	}
	// A hash can be neither an option nor a range.
	commit, err := git(ctx, directory, "rev-parse", "--verify", "--quiet", base+"^{commit}")
	if err != nil || strings.HasPrefix(commit, "^") {
		return nil, hint.With(fmt.Errorf("%s has no commit %q", directory, base), historyHint)
	}
	fork, err := git(ctx, directory, "merge-base", strings.TrimSpace(commit), "HEAD")
	if err != nil {
		return nil, hint.With(fmt.Errorf("this clone has no merge base of HEAD and %s", base), historyHint)
	}
	changed := map[string]bool{}
	for _, command := range [][]string{
		{"diff", "--name-only", "-z", "--relative", "--no-renames", strings.TrimSpace(fork), "--"},
		{"ls-files", "-z", "--others", "--exclude-standard"},
	} {
		names, err := git(ctx, directory, command...)
		if err != nil {
			return nil, err
		}
		for name := range strings.SplitSeq(names, "\x00") {
			changed[filepath.Join(directory, filepath.FromSlash(name))] = true
		}
	}
	return changed, nil
}

// git runs git in a directory and returns its output.
func git(ctx context.Context, directory string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, "git", append([]string{"-C", directory}, arguments...)...) //nolint:gosec // no shell, and no option comes from outside
	command.Env = gitEnvironment(os.Environ())
	out, err := command.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", hint.With(errors.New("git is not installed"), "install git")
	}
	if failure, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(failure.Stderr)), "\n")
		return "", fmt.Errorf("git in %s: %s", directory, strings.TrimPrefix(line, "fatal: "))
	}
	return string(out), err
}

// gitEnvironment removes the variables that point git at another repository, as in a
// hook, and keeps git from writing to the index.
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
