package yamlerr_test

import (
	"errors"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/squall-chaos/squall/internal/yamlerr"
)

func TestSplit(t *testing.T) {
	for text, want := range map[string]struct {
		line    int
		message string
	}{
		"yaml: line 3: did not find expected key":      {line: 3, message: "did not find expected key"},
		"yaml: control characters are not allowed":     {line: 0, message: "control characters are not allowed"},
		"read /dev/full: is a directory":               {line: 0, message: "read /dev/full: is a directory"},
		"yaml: line 99999999999999999999: is too long": {line: 0, message: "is too long"},
	} {
		if line, message := yamlerr.Split(errors.New(text)); message != want.message || want.line != 0 && line != want.line {
			t.Errorf("%q: line %d, %q", text, line, message)
		}
	}
}

// The library has no other way to report a line.
func TestSplitOfTheLibrary(t *testing.T) {
	var node yaml.Node
	err := yaml.Unmarshal([]byte("a: 1\nb: [1\n"), &node)
	if err == nil {
		t.Fatal("an unfinished list is accepted")
	}
	if line, message := yamlerr.Split(err); line == 0 || message == err.Error() {
		t.Errorf("%v: line %d, %q", err, line, message)
	}
}
