// Package starter writes the first experiment file of a user.
package starter

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/experiments/library"
	"github.com/squall-chaos/squall/internal/hint"
)

//go:embed starter.yaml
var starter []byte

// ChangeMark marks the lines that the user must change.
const ChangeMark = "# CHANGE"

// Content returns the experiment of that name in the library with the name of its file,
// or the commented starter file if the name is empty.
func Content(name string) (content []byte, file string, err error) {
	if name == "" {
		return starter, "experiment.yaml", nil
	}
	content, err = library.Files.ReadFile(name + ".yaml")
	if err != nil {
		return nil, "", hint.With(fmt.Errorf("the library has no experiment %q", name), "squall init --list lists the experiments")
	}
	return content, name + ".yaml", nil
}

// Write writes a file that does not exist yet, and prints the next steps.
func Write(out io.Writer, name string, content []byte) (err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // a file for the team's repository
	if errors.Is(err, fs.ErrExist) {
		return hint.With(fmt.Errorf("%s exists already", name), "choose another file: squall init FILE")
	}
	if err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Close(); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s\n", name)
	number := 0
	for line := range strings.Lines(string(content)) {
		if number++; strings.Contains(line, ChangeMark) {
			fmt.Fprintf(out, "change line %d: %s\n", number, strings.TrimSpace(line))
		}
	}
	fmt.Fprintf(out, "then: squall validate %s\n", name)
	return nil
}

// List prints the experiments of the library with their titles.
func List(out io.Writer) error {
	names, err := fs.Glob(library.Files, "*.yaml")
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, name := range names {
		file, err := library.Files.Open(name)
		if err != nil {
			return err
		}
		all, err := files.Load(name, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%s\n", strings.TrimSuffix(name, ".yaml"), all[0].Spec.Title)
	}
	return table.Flush()
}
