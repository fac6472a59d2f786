// Package process is the process of the program as its commands see it.
package process

import (
	"io"
	"os"
	"runtime/debug"

	"golang.org/x/term"
)

// Env is the environment of the process.
type Env struct {
	Args   []string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
}

// OnTerminal reports whether a person can be asked.
func (e Env) OnTerminal() bool {
	for _, stream := range []any{e.Stdin, e.Stderr} {
		if file, is := stream.(*os.File); !is || !term.IsTerminal(int(file.Fd())) {
			return false
		}
	}
	return true
}

// Version returns the version of the module, which Go takes from the repository.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
