package flag

import (
	"errors"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/app/session"
	"github.com/squall-chaos/squall/internal/app/terminal"
	"github.com/squall-chaos/squall/reports"
)

// Session adds the flags that choose how runs are recorded and shown.
func Session(flags *pflag.FlagSet, s *session.Session) {
	Out(flags, &s.Directory)
	Choices(flags, &s.Reports, "report", "reports to write beside the journal", reports.Formats()...)
	flags.BoolVarP(&s.Quiet, "quiet", "q", false, "print no progress")
	flags.BoolVarP(&s.Verbose, "verbose", "v", false, "print more: each query, each object with its UID")
	LogFormat(flags, &s.Format, "format of the progress")
}

// DefaultOut is the default of --out.
const DefaultOut = "squall-runs"

// Out adds the flag --out.
func Out(flags *pflag.FlagSet, directory *string) {
	*directory = DefaultOut
	flags.Var(path{directory}, "out", "directory in which each run gets a directory with its journal and reports")
}

// LogFormat adds the flag --log-format.
func LogFormat(flags *pflag.FlagSet, format *terminal.Format, description string) {
	*format = terminal.Text
	Choice(flags, format, "log-format", "", description, terminal.Text, terminal.JSON)
}

// path is a flag with the path of a file or directory.
type path struct{ value *string }

// Set implements pflag.Value. An empty path would be the working directory.
func (p path) Set(text string) error {
	if text == "" {
		return errors.New("must not be empty")
	}
	*p.value = text
	return nil
}

// String implements pflag.Value.
func (p path) String() string {
	if p.value == nil { // pflag calls it on the zero value
		return ""
	}
	return *p.value
}

// Type implements pflag.Value.
func (path) Type() string { return "string" }
