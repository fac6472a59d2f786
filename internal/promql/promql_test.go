package promql_test

import (
	"testing"

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
