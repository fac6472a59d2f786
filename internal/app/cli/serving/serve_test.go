package serving

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// The name that the flag had before is still accepted.
func TestOldNameOfTheTokenFlag(t *testing.T) {
	var flags serveFlags
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SetOutput(&strings.Builder{})
	flags.add(set)
	if err := set.Parse([]string{"--token-file", "secret"}); err != nil || flags.apiTokenFile != "secret" {
		t.Errorf("%q: %v", flags.apiTokenFile, err)
	}
	if strings.Contains(set.FlagUsages(), "--token-file") {
		t.Error("the old name is in the help")
	}
}
