package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

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
	broken  string                   // why there is no present version
	good    []experiments.Experiment // the last version without a problem
	used    []experiments.Experiment // what is in use of it
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
		if f.files[name] == nil {
			f.files[name] = &file{}
		}
		changed = f.files[name].take(name, content) || changed
	}
	if changed {
		f.settle()
	}
	return changed
}

// content is what a file holds, or why it cannot be read.
type content struct {
	bytes []byte
	err   error
}

// contents reads the experiment files directly in the directory.
func (f *Folder) contents() (map[string]content, error) {
	names, err := experiments.ListFiles(f.path)
	if err != nil {
		return nil, err
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%s holds more than %d experiment files", f.path, maxFiles)
	}
	contents := make(map[string]content, len(names))
	for _, name := range names {
		read, err := readBounded(filepath.Join(f.path, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // it went while the folder was read
		}
		contents[name] = content{read, err}
	}
	return contents, nil
}

// maxContent is more than the loader takes of a file.
const maxContent = 2 << 20

// readBounded reads a file that holds no more than anybody needs. Nothing else is
// opened: a pipe would never end.
func readBounded(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	file, err := os.Open(name) //nolint:gosec // the user names the folder
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	return io.ReadAll(io.LimitReader(file, maxContent))
}

// take takes in what a file holds now, and reports whether that changes anything.
func (f *file) take(name string, now content) bool {
	switch {
	case now.err != nil:
		changed := f.broken != now.err.Error()
		f.content, f.present, f.broken = nil, nil, now.err.Error()
		return changed
	case f.content != nil && bytes.Equal(f.content, now.bytes):
		return false
	}
	f.content, f.broken = now.bytes, ""
	loaded, err := experiments.Load(name, bytes.NewReader(now.bytes))
	if err != nil {
		f.broken = err.Error()
	}
	f.present = loaded
	return true
}

// settle decides which version of each file is in use: the present one, unless
// it is broken, or names an experiment that another file has.
func (f *Folder) settle() {
	taken := map[string]string{}
	for _, name := range f.names() {
		one := f.files[name]
		if one.problem = one.broken; one.problem == "" {
			one.problem = clashes(one.present, taken)
		}
		if one.problem == "" {
			one.good = one.present
		}
		one.used = slices.DeleteFunc(slices.Clone(one.good), func(e experiments.Experiment) bool { return taken[e.Metadata.Name] != "" })
		for _, e := range one.used {
			taken[e.Metadata.Name] = name
		}
	}
}

func clashes(all []experiments.Experiment, taken map[string]string) string {
	for _, e := range all {
		if other := taken[e.Metadata.Name]; other != "" {
			return fmt.Sprintf("%s names an experiment too: %s; rename one", other, e.Metadata.Name)
		}
	}
	return ""
}

// Loaded is an experiment that is in use, and its file.
type Loaded struct {
	experiments.Experiment
	File string
}

// Experiments gives what is in use by name.
func (f *Folder) Experiments() map[string]Loaded {
	all := map[string]Loaded{}
	for name, one := range f.files {
		for _, e := range one.used {
			all[e.Metadata.Name] = Loaded{e, name}
		}
	}
	return all
}

// Problem says why the folder itself cannot be read; it is empty when it can.
func (f *Folder) Problem() string { return f.problem }

// Broken lists what cannot be used as it is.
func (f *Folder) Broken() []Broken {
	broken := []Broken{}
	if f.problem != "" {
		broken = append(broken, Broken{f.path, f.problem, len(f.files) > 0})
	}
	for _, name := range f.names() {
		if one := f.files[name]; one.problem != "" {
			broken = append(broken, Broken{name, one.problem, len(one.used) > 0})
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
