package files_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments/files"
)

func TestListFiles(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	for _, name := range []string{"b.yml", "a.yaml", ".draft.yaml", "..data", "a.json", "yaml", "c.YAML"} {
		if err := os.WriteFile(filepath.Join(directory, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := files.List(directory)
	if diff := cmp.Diff([]string{"a.yaml", "b.yml"}, got); diff != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	if _, err := files.List(filepath.Join(directory, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v for a directory that does not exist", err)
	}
}
