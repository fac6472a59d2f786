// Package directory reads a directory of experiment files repeatedly. When
// a file breaks, the last version of it that was valid stays in use.
package directory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/internal/confined"
)

// Directory is a directory of experiment files. It is not safe for concurrent
// use.
type Directory struct {
	path  string
	files map[string]*file
	err   error // why the directory could not be read
}

// file is one experiment file.
type file struct {
	content []byte                   // as last read
	present []experiments.Experiment // loaded from content
	failure error                    // why the file cannot be read or loaded
	good    []experiments.Experiment // the last version without a problem
	used    []experiments.Experiment // the experiments of good that are in use
	problem error                    // failure, or the clash with another file
}

// Broken is a file that cannot be used as it is.
type Broken struct {
	File    string `json:"file"`
	Problem string `json:"problem"`
	// Kept reports whether an earlier version of the file is still in use.
	Kept bool `json:"kept"`
}

// New returns the directory at path. It has no experiments until Read.
func New(path string) *Directory { return &Directory{path: path, files: map[string]*file{}} }

// maxFiles is the largest number of experiment files in a directory.
const maxFiles = 10_000

// Read reads the directory again and reports whether anything has changed. It
// compares whole files: when Kubernetes updates a mounted ConfigMap, the names
// stay and the sizes may.
func (d *Directory) Read() (changed bool) {
	contents, err := d.contents()
	before := d.err
	d.err = err
	if err != nil {
		return !same(before, err)
	}
	changed = before != nil
	for name := range d.files {
		if _, stays := contents[name]; !stays {
			delete(d.files, name)
			changed = true
		}
	}
	for name, content := range contents {
		if d.files[name] == nil {
			d.files[name] = &file{}
		}
		changed = d.files[name].load(name, content) || changed
	}
	if changed {
		d.choose()
	}
	return changed
}

// content is the content of a file, or why it cannot be read.
type content struct {
	bytes []byte
	err   error
}

// contents reads the experiment files.
func (d *Directory) contents() (map[string]content, error) {
	names, err := files.List(d.path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(d.path) // each time: the directory may be a link that moves on
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // opened for reading
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%s holds more than %d experiment files", d.path, maxFiles)
	}
	contents := make(map[string]content, len(names))
	for _, name := range names {
		read, err := readBounded(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was deleted after the directory was listed
		}
		contents[name] = content{bytes: read, err: err}
	}
	return contents, nil
}

// maxContent is the most that is read of a file, in bytes. It is larger than
// files.Load accepts, so a file that is cut off here is refused there.
const maxContent = 2 << 20

// readBounded reads the beginning of a file.
func readBounded(root *os.Root, name string) ([]byte, error) {
	file, err := confined.Open(root, name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	return io.ReadAll(io.LimitReader(file, maxContent))
}

// load loads the new content of a file and reports whether anything has changed.
func (f *file) load(name string, now content) (changed bool) {
	switch {
	case now.err != nil:
		changed = !same(f.failure, now.err)
		f.content, f.present, f.failure = nil, nil, now.err
		return changed
	case f.content != nil && bytes.Equal(f.content, now.bytes):
		return false
	}
	f.content = now.bytes
	f.present, f.failure = files.Load(name, bytes.NewReader(now.bytes))
	return true
}

// choose decides which version of each file is in use: the present one, unless
// it is broken or names an experiment of another file.
func (d *Directory) choose() {
	taken := map[string]string{} // files by the experiments that they name
	for _, name := range d.names() {
		one := d.files[name]
		if one.problem = one.failure; one.problem == nil {
			one.problem = clash(one.present, taken)
		}
		if one.problem == nil {
			one.good = one.present
		}
		one.used = slices.DeleteFunc(slices.Clone(one.good), func(e experiments.Experiment) bool { return taken[e.Metadata.Name] != "" })
		for _, e := range one.used {
			taken[e.Metadata.Name] = name
		}
	}
}

// same reports whether two errors read the same.
func same(a, b error) bool { return a != nil && b != nil && a.Error() == b.Error() }

// clash returns an error if the name of an experiment is taken.
func clash(all []experiments.Experiment, taken map[string]string) error {
	for _, e := range all {
		if other := taken[e.Metadata.Name]; other != "" {
			return fmt.Errorf("%s names an experiment too: %s; rename one", other, e.Metadata.Name)
		}
	}
	return nil
}

// Loaded is an experiment that is in use, with the name of its file.
type Loaded struct {
	experiments.Experiment
	File string
}

// Experiments returns the experiments in use, by name.
func (d *Directory) Experiments() map[string]Loaded {
	all := map[string]Loaded{}
	for name, one := range d.files {
		for _, e := range one.used {
			all[e.Metadata.Name] = Loaded{Experiment: e, File: name}
		}
	}
	return all
}

// Err returns why the directory could not be read last time, or nil.
func (d *Directory) Err() error { return d.err }

// Broken returns the files that cannot be used as they are, sorted by name. The
// directory itself comes first when it cannot be read.
func (d *Directory) Broken() []Broken {
	broken := []Broken{}
	if d.err != nil {
		broken = append(broken, Broken{File: d.path, Problem: d.err.Error(), Kept: len(d.files) > 0})
	}
	for _, name := range d.names() {
		if one := d.files[name]; one.problem != nil {
			broken = append(broken, Broken{File: name, Problem: one.problem.Error(), Kept: len(one.used) > 0})
		}
	}
	return broken
}

func (d *Directory) names() []string { return slices.Sorted(maps.Keys(d.files)) }
