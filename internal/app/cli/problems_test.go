package cli

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments/problem"
)

// In a job of GitHub Actions a problem is shown in the file. No text of the file is a
// workflow command.
func TestProblemsAreAnnotations(t *testing.T) {
	problems := problem.List{
		{File: "a,b:c.yaml", Line: 3, Column: 5, Path: "spec.duration", Message: "is missing\n::error::x", Remedy: "50%"},
		{File: "b.yaml", Message: "cannot be read"},
	}
	for actions, want := range map[string]string{
		"": "", "true": "::error file=a%2Cb%3Ac.yaml,line=3,col=5,title=squall::spec.duration: is missing\\n::error::x (50%25)\n::error file=b.yaml,title=squall::cannot be read\n",
	} {
		var out, stderr bytes.Buffer
		err := invalid(Env{Stdout: &out, Stderr: &stderr, Getenv: func(string) string { return actions }}, problems)
		if want = problems.Error() + "\n" + want; err == nil || out.Len() > 0 || stderr.String() != want {
			t.Errorf("%v: (-want +got):\n%s", err, cmp.Diff(want, stderr.String()))
		}
	}
}
