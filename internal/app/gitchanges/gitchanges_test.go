package gitchanges_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/gitchanges"
	"github.com/squall-chaos/squall/internal/hint"
)

// repository returns the root of a repository with a commit of some files.
func repository(t *testing.T, files ...string) (root string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	git(t, root, "init", "-q", "-b", "main")
	for _, name := range files {
		write(t, filepath.Join(root, name), "first")
	}
	git(t, root, "add", ".")
	git(t, root, "commit", "-q", "-m", "first")
	return root
}

func git(t *testing.T, root string, arguments ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "git", append([]string{"-C", root, "-c", "user.name=a", "-c", "user.email=a@example.com"}, arguments...)...)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", arguments, err, out)
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAmong(t *testing.T) {
	root := repository(t, "same", "committed", "modified", "target")
	in := func(name string) string { return filepath.Join(root, name) }
	if err := os.Symlink("target", in("link")); err != nil {
		t.Fatal(err)
	}
	git(t, root, "add", ".")
	git(t, root, "commit", "-q", "-m", "a link")
	git(t, root, "checkout", "-q", "-b", "topic")
	write(t, in("committed"), "second")
	git(t, root, "commit", "-q", "-a", "-m", "second")
	write(t, in("modified"), "second")
	write(t, in("target"), "second")
	write(t, in("untracked"), "first")

	files := []string{in("same"), in("committed"), in("modified"), in("untracked"), in("link"), in("nowhere")}
	got, err := gitchanges.Among(t.Context(), "main", files)
	if diff := cmp.Diff(files[1:], got); err != nil || diff != "" {
		t.Errorf("error %v: %s", err, diff)
	}
}

func TestErrorsHaveAHint(t *testing.T) {
	root := repository(t, "file")
	outside := filepath.Join(t.TempDir(), "file")
	write(t, outside, "")
	for name, test := range map[string]struct{ base, file string }{
		"no commit":     {base: "nothing", file: filepath.Join(root, "file")},
		"no repository": {base: "main", file: outside},
	} {
		if _, err := gitchanges.Among(t.Context(), test.base, []string{test.file}); err == nil || hint.Of(err) == "" {
			t.Errorf("%s: error %v, hint %q", name, err, hint.Of(err))
		}
	}
}
