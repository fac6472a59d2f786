// Package confined opens regular files inside the real path of a directory. Links
// inside it are followed; a link that leads out is an error.
package confined

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Stat returns the description of a regular file.
func Stat(root *os.Root, name string) (fs.FileInfo, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, explain(root, name, err)
	}
	return info, regular(name, info)
}

// Open opens a regular file for reading. Anything else is refused before it is
// opened, because opening a pipe could block forever.
func Open(root *os.Root, name string) (*os.File, error) {
	if _, err := Stat(root, name); err != nil {
		return nil, err
	}
	file, err := root.Open(name)
	if err != nil {
		return nil, explain(root, name, err)
	}
	info, err := file.Stat()
	if err == nil {
		err = regular(name, info)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func regular(name string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	return nil
}

// explain says that a file is a link, if that is the problem.
func explain(root *os.Root, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info, failure := root.Lstat(name); failure == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a link that leads out of the directory, or cannot be followed: %w", name, err)
	}
	return err
}
