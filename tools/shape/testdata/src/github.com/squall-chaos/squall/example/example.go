// Package example has literals for the test of keyed.
package example

type pair struct{ a, b int }

type single struct{ a int }

type list []int

var (
	positional = pair{1, 2}             // want "composite literal of pair without field names"
	elided     = []pair{{3, 4}}         // want "composite literal of pair without field names"
	pointers   = []*pair{{5, 6}}        // want "composite literal of pair without field names"
	values     = map[string]pair{"a": { // want "composite literal of pair without field names"
		7, 8,
	}}
	named     = pair{a: 1, b: 2}
	empty     = pair{}
	one       = single{1}
	numbers   = list{1, 2}
	anonymous = []struct{ a, b int }{{1, 2}}
)
