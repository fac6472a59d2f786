package promql_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/squall-chaos/squall/internal/promql"
)

func TestMayBeEmpty(t *testing.T) {
	for condition, want := range map[string]bool{
		"sum(rate(errors_total[1m])) < 5":         true,
		"((up == 1))":                             true,
		"up > 1 or down < 2":                      true,
		"up > 1 or (down < 2 and on() vector(1))": true,
		"up and on() (down < 2)":                  true,
		"vector(1) and on() up > 0":               true,
		"up unless on() down > 0":                 true,
		"hour() < 6":                              true,
		"vector(time()) < 6":                      true,
		"up":                                      false,
		"up > bool 0":                             false,
		"up + 1":                                  false,
		"sum(rate(errors_total[1m])) < 5 or vector(0)": false,
		"(vector(0)) or up < 5":                        false,
		"up or vector(1)":                              false,
		"(sum(up) or vector(0)) and on() vector(1)":    false,
		"sum(up > 1) or (up > 0 or (vector(1)))":       false,
		"vector(0) > 1":                                true,
	} {
		expression, err := promql.Parse(condition)
		if err != nil {
			t.Fatalf("%s: %v", condition, err)
		}
		if got := promql.MayBeEmpty(expression); got != want {
			t.Errorf("%s: %t, want %t", condition, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	if _, err := promql.Parse("sort_by_label(up, \"job\")"); err != nil {
		t.Errorf("an experimental function: %v", err)
	}
	if _, err := promql.Parse("1 <"); err == nil {
		t.Error("an unfinished comparison is accepted")
	}
}

// A query one level too deep is refused before it is parsed: its error is not
// one of the parser, although it is not PromQL.
func TestBounds(t *testing.T) {
	repeat := strings.Repeat
	for name, test := range map[string]struct {
		query  string
		levels int // of a refused query
	}{
		"unary operators":   {query: repeat("-", 200) + "up"},
		"one more":          {query: repeat("-", 201) + "up", levels: 201},
		"operators in rows": {query: "up" + repeat(" or up", 201), levels: 201},
		"parentheses":       {query: repeat("(", 100) + "up" + repeat(")", 100)},
		"never closed":      {query: repeat("(", 201), levels: 201},
		"closed too often":  {query: "up" + repeat(")", 300)},
		"functions":         {query: repeat("abs(", 201) + "up" + repeat(")", 201), levels: 201},
		"subqueries":        {query: "up" + repeat("[1m:1s]", 201), levels: 201},
		"offsets":           {query: "up" + repeat(" offset 1m", 201), levels: 201},
		"mixed":             {query: repeat("-(", 100) + "up > 1" + repeat(")", 100), levels: 201},
		"many arguments":    {query: `label_join(up, "a", ""` + repeat(`, "b"`, 500) + ")"},
		"deep arguments":    {query: "max_over_time(up[1m]) + clamp(up, 1, " + repeat("-", 200) + "1)", levels: 203},
		"many matchers":     {query: "up{" + repeat(`a="b",`, 500) + "}"},
		"in a string":       {query: `vector(1) and up{a="` + repeat("(", 500) + `"}`},
		"not PromQL":        {query: repeat("(", 201) + "!!", levels: 201},
	} {
		_, err := promql.Parse(test.query)
		bound, refused := errors.AsType[*promql.BoundError](err)
		if refused != (test.levels > 0) || refused && (bound.Value != test.levels || bound.Unit != "levels deep") {
			t.Errorf("%s: %v", name, err)
		}
		if _, parsed := errors.AsType[parser.ParseErrors](err); parsed && name != "closed too often" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := promql.Parse(repeat("a", 16<<10+1)); err == nil || err.Error() != "is 16385 bytes long; Squall takes at most 16384" {
		t.Errorf("error %v", err)
	}
}

// The time for the worst query that is accepted.
func BenchmarkParse(b *testing.B) {
	query := "1" + strings.Repeat("^1", 199)
	for b.Loop() {
		if _, err := promql.Parse(query); err != nil {
			b.Fatal(err)
		}
	}
}
