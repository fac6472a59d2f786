package cli

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestChoice(t *testing.T) {
	for _, test := range []struct {
		arguments []string
		want      outputFormat
		wrong     string
	}{
		{want: outputText},
		{arguments: []string{"-o", "json"}, want: outputJSON},
		{arguments: []string{"--output=yaml"}, want: outputYAML},
		{arguments: []string{"-o", "xml"}, want: outputText, wrong: `invalid argument "xml" for "-o, --output" flag: must be text, yaml or json`},
		{arguments: []string{"-o", ""}, want: outputText, wrong: "must be text, yaml or json"},
	} {
		var output outputFormat
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		addOutput(flags, &output, outputText, outputYAML, outputJSON)
		err := flags.Parse(test.arguments)
		if output != test.want || (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("%q: %q, error %v", test.arguments, output, err)
		}
		if usage := flags.FlagUsages(); !strings.Contains(usage, `output format (text, yaml or json) (default "`) {
			t.Error(usage)
		}
	}
}

func TestAlternatives(t *testing.T) {
	for want, values := range map[string][]string{"": nil, "a": {"a"}, "a or b": {"a", "b"}, "a, b or c": {"a", "b", "c"}} {
		if got := alternatives(values); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

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
