package preview

import (
	"strings"
	"testing"

	"github.com/squall-chaos/squall/mesh"
)

// Text from manifests cannot end a comment.
func TestYAMLCommentsStayComments(t *testing.T) {
	var out strings.Builder
	inForce := "prod/ratings\nkind: Secret\rkind: Secret\u2028kind: Secret"
	p := Preview{Experiment: "x", Decisions: []Decision{{Decision: mesh.Decision{Host: "h", Effective: &inForce, Placement: mesh.Refused, Reason: "no\nkind: Secret"}}}}
	if err := WriteYAML(&out, p); err != nil {
		t.Fatal(err)
	}
	for line := range strings.FieldsFuncSeq(out.String(), func(r rune) bool { return strings.ContainsRune("\n\r\u0085\u2028\u2029", r) }) {
		if !strings.HasPrefix(line, "#") {
			t.Errorf("%q is no comment", line)
		}
	}
}
