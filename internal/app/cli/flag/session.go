package flag

import (
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
	flags.StringVar(directory, "out", DefaultOut, "directory in which each run gets a directory with its journal and reports")
}

// LogFormat adds the flag --log-format.
func LogFormat(flags *pflag.FlagSet, format *terminal.Format, description string) {
	*format = terminal.Text
	Choice(flags, format, "log-format", "", description, terminal.Text, terminal.JSON)
}
