package oneline_test

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/internal/oneline"
)

func TestBlankedAndEscaped(t *testing.T) {
	for _, test := range []struct{ text, blanked, escaped string }{
		{"", "", ""},
		{"page p99 ü 'x' \"y\" \\", "page p99 ü 'x' \"y\" \\", "page p99 ü 'x' \"y\" \\"},
		{"a\nb\t\x1b[2Jc", "a b  [2Jc", `a\nb\t\x1b[2Jc`},
		{"a\u202eb\u2028\u00a0", "a b  ", `a\u202eb\u2028\u00a0`},
		{"::error::x", ": :error::x", ": :error::x"},
		{"  ::add-mask::held", "  : :add-mask::held", "  : :add-mask::held"},
		{"\n::error::x", " : :error::x", `\n::error::x`},
		{"::", ": :", ": :"},
		{"a::b", "a::b", "a::b"},
		{"a ###[error]##[x]", "a ### [error]## [x]", "a ### [error]## [x]"},
	} {
		if got := oneline.Blanked(test.text); got != test.blanked {
			t.Errorf("%q blanked: %q", test.text, got)
		}
		if got := oneline.Escaped(test.text); got != test.escaped {
			t.Errorf("%q escaped: %q", test.text, got)
		}
	}
}

func TestNothingIsObeyed(t *testing.T) {
	texts := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ \n\t#:\[\]a\x1b\x85]{0,12}`))
	rapid.Check(t, func(t *rapid.T) {
		text := texts.Draw(t, "text")
		for _, got := range []string{oneline.Blanked(text), oneline.Escaped(text)} {
			if strings.HasPrefix(strings.TrimSpace(got), "::") || strings.Contains(got, "##[") || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q gives %q", text, got)
			}
		}
	})
}
