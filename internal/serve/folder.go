package serve

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/experiments"
)

// Folder is a folder of experiment files. A file that breaks keeps its last good
// version. It is not safe for concurrent use.
type Folder struct {
	path    string
	files   map[string]*file
	problem string // of the folder itself
}

// file is one experiment file, by its present content.
type file struct {
	content []byte
	present []experiments.Experiment
	good    []experiments.Experiment // the last version without a problem
	problem string
}

// Broken is a file that cannot be used as it is.
type Broken struct {
	File    string `json:"file"`
	Problem string `json:"problem"`
	// Kept tells that an earlier version of it is still in use.
	Kept bool `json:"kept"`
}

// NewFolder makes a folder that has not been read yet.
func NewFolder(path string) *Folder { return &Folder{path: path, files: map[string]*file{}} }

// maxFiles bounds what is read of a folder.
const maxFiles = 10_000

// Read reads the folder again, and reports whether anything has changed. The
// files are read whole each time: the swap of a mounted ConfigMap's links shows
// in neither names nor sizes.
func (f *Folder) Read() (changed bool) {
	contents, err := f.contents()
	if err != nil {
		changed, f.problem = f.problem != err.Error(), err.Error()
		return changed
	}
	changed, f.problem = f.problem != "", ""
	for name := range f.files {
		if _, stays := contents[name]; !stays {
			delete(f.files, name)
			changed = true
		}
	}
	for name, content := range contents {
		known, is := f.files[name]
		if is && bytes.Equal(known.content, content) {
			continue
		}
		if !is {
			known = &file{}
			f.files[name] = known
		}
		known.take(name, content)
		changed = true
	}
	if changed {
		f.settle()
	}
	return changed
}

// contents reads the experiment files directly in the folder, as `squall run`
// takes them of one. What cannot be read has no content, which is a problem of
// its own.
func (f *Folder) contents() (map[string][]byte, error) {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return nil, err
	}
	contents := map[string][]byte{}
	for _, entry := range entries {
		name := entry.Name()
		if ending := filepath.Ext(name); strings.HasPrefix(name, ".") || ending != ".yaml" && ending != ".yml" {
			continue
		}
		if len(contents) == maxFiles {
			return nil, fmt.Errorf("%s holds more than %d experiment files", f.path, maxFiles)
		}
		content, err := os.ReadFile(filepath.Join(f.path, name)) //nolint:gosec // the user names the folder
		if errors.Is(err, os.ErrNotExist) {
			continue // it went while the folder was read
		}
		contents[name] = content
	}
	return contents, nil
}

// take takes in new content.
func (f *file) take(name string, content []byte) {
	f.content, f.problem = content, ""
	loaded, err := experiments.Load(name, bytes.NewReader(content))
	if err != nil {
		f.problem = err.Error()
		return
	}
	f.present = loaded
}

// settle decides which version of each file is in use: the present one, unless
// it is broken, or names an experiment that another file has.
func (f *Folder) settle() {
	taken := map[string]string{}
	for _, name := range f.names() {
		one := f.files[name]
		if one.problem == "" || strings.Contains(one.problem, clash) {
			one.problem = clashes(one.present, taken)
		}
		if one.problem == "" {
			one.good = one.present
		}
		one.good = slices.DeleteFunc(slices.Clone(one.good), func(e experiments.Experiment) bool { return taken[e.Metadata.Name] != "" })
		for _, e := range one.good {
			taken[e.Metadata.Name] = name
		}
	}
}

const clash = "names an experiment too:"

func clashes(all []experiments.Experiment, taken map[string]string) string {
	for _, e := range all {
		if other := taken[e.Metadata.Name]; other != "" {
			return fmt.Sprintf("%s %s %s; rename one", other, clash, e.Metadata.Name)
		}
	}
	return ""
}

// Experiments gives what is in use, each with its file, in the order of their
// names.
func (f *Folder) Experiments() map[string]experiments.Experiment {
	all := map[string]experiments.Experiment{}
	for _, one := range f.files {
		for _, e := range one.good {
			all[e.Metadata.Name] = e
		}
	}
	return all
}

// FileOf names the file of an experiment.
func (f *Folder) FileOf(experiment string) string {
	for _, name := range f.names() {
		for _, e := range f.files[name].good {
			if e.Metadata.Name == experiment {
				return name
			}
		}
	}
	return ""
}

// Broken lists what cannot be used as it is.
func (f *Folder) Broken() []Broken {
	broken := []Broken{}
	if f.problem != "" {
		broken = append(broken, Broken{f.path, f.problem, len(f.files) > 0})
	}
	for _, name := range f.names() {
		if one := f.files[name]; one.problem != "" {
			broken = append(broken, Broken{name, one.problem, len(one.good) > 0})
		}
	}
	return broken
}

func (f *Folder) names() []string {
	names := make([]string, 0, len(f.files))
	for name := range f.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
