package files

import (
	"os"
	"path/filepath"
	"strings"
)

// List returns the names of the experiment files directly in a directory, sorted: the
// ones that end in .yaml or .yml and do not begin with a dot. Some may not be regular
// files. It returns the error of os.ReadDir.
func List(directory string) ([]string, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		extension := filepath.Ext(name)
		if !strings.HasPrefix(name, ".") && (extension == ".yaml" || extension == ".yml") {
			names = append(names, name)
		}
	}
	return names, nil
}
