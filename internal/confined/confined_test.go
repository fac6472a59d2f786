package confined_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/squall-chaos/squall/internal/confined"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	base := t.TempDir()
	real := filepath.Join(base, "real")
	must(t, os.MkdirAll(filepath.Join(real, "..2026_01"), 0o750))
	must(t, os.Mkdir(filepath.Join(base, "other"), 0o750))
	must(t, os.WriteFile(filepath.Join(base, "other", "secret"), []byte("s3cr3t"), 0o600))
	must(t, os.WriteFile(filepath.Join(base, "secret"), []byte("s3cr3t"), 0o600))
	must(t, os.WriteFile(filepath.Join(real, "plain"), []byte("content"), 0o600))
	must(t, os.WriteFile(filepath.Join(real, "..2026_01", "mounted"), []byte("content"), 0o600))
	must(t, syscall.Mkfifo(filepath.Join(real, "pipe"), 0o600))
	for name, target := range map[string]string{
		// As Kubernetes mounts a ConfigMap.
		"..data": "..2026_01", "mounted": "..data/mounted",
		"up": "../secret", "absolute": filepath.Join(base, "secret"), "twice": "up", "directory": "../other", "device": "/dev/zero", "broken": "nothing",
	} {
		must(t, os.Symlink(target, filepath.Join(real, name)))
	}
	must(t, os.Symlink("real", filepath.Join(base, "linked")))
	for _, directory := range []string{real, filepath.Join(base, "linked")} {
		root, err := os.OpenRoot(directory)
		must(t, err)
		defer root.Close() //nolint:errcheck // opened for reading
		for name, want := range map[string]string{
			"plain": "", "mounted": "", "..data/mounted": "",
			"up": "up is a link that leads out", "absolute": "absolute is a link that leads out", "twice": "twice is a link that leads out",
			"directory/secret": "escapes", "directory": "directory is a link that leads out", "device": "device is a link that leads out", "..data": "not a regular file", "pipe": "pipe is not a regular file", "../secret": "escapes",
		} {
			file, err := confined.Open(root, name)
			if want != "" {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: error %v", name, err)
				}
				continue
			}
			must(t, err)
			content, err := io.ReadAll(file)
			if err := errors.Join(err, file.Close()); err != nil || string(content) != "content" {
				t.Errorf("%s: %q, error %v", name, content, err)
			}
		}
		for _, name := range []string{"missing", "broken"} {
			if _, err := confined.Open(root, name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: error %v", name, err)
			}
		}
	}
}
