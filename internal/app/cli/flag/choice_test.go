package flag

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestChoice(t *testing.T) {
	for _, test := range []struct {
		arguments []string
		want      Format
		wrong     string
	}{
		{want: Text},
		{arguments: []string{"-o", "json"}, want: JSON},
		{arguments: []string{"--output=yaml"}, want: YAML},
		{arguments: []string{"-o", "xml"}, want: Text, wrong: `invalid argument "xml" for "-o, --output" flag: must be text, yaml or json`},
		{arguments: []string{"-o", ""}, want: Text, wrong: "must be text, yaml or json"},
	} {
		var output Format
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		Output(flags, &output, Text, YAML, JSON)
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

func TestChoices(t *testing.T) {
	var formats []Format
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	Choices(flags, &formats, "report", "reports to write", Text, YAML, JSON)
	if err := flags.Parse([]string{"--report", "json, text", "--report=yaml"}); err != nil || len(formats) != 3 || formats[0] != JSON {
		t.Errorf("%q: %v", formats, err)
	}
	if err := flags.Parse([]string{"--report", "json,pdf"}); err == nil || !strings.Contains(err.Error(), `"json,pdf" for "--report" flag: must be text, yaml or json`) {
		t.Error(err)
	}
	if got := flags.Lookup("report").Value.String(); got != "json,text,yaml,json" {
		t.Error(got)
	}
}
