// Package promql parses PromQL as Squall accepts it.
package promql

import (
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/promql/parser"
)

// Bounds on one query. The parser takes quadratic time for deep nesting, and
// cannot be interrupted.
const (
	maxBytes  = 16 << 10
	maxLevels = 200
)

// BoundError is the error for a query that is not parsed because it is too large.
type BoundError struct {
	Value int
	// Unit is of Value and Most, such as "bytes long".
	Unit string
	Most int
}

// Error implements error.
func (b *BoundError) Error() string {
	return fmt.Sprintf("is %d %s; Squall takes at most %d", b.Value, b.Unit, b.Most)
}

// Parse parses a query, experimental functions included. The error is a
// *BoundError, or of type parser.ParseErrors. All queries from users are parsed
// here.
func Parse(query string) (parser.Expr, error) {
	if len(query) > maxBytes {
		return nil, &BoundError{Value: len(query), Unit: "bytes long", Most: maxBytes}
	}
	if levels := levels(query); levels > maxLevels {
		return nil, &BoundError{Value: levels, Unit: "levels deep", Most: maxLevels}
	}
	return parser.NewParser(parser.Options{EnableExperimentalFunctions: true}).ParseExpr(query)
}

// MayBeEmpty reports whether a condition returns no series when it does not hold:
// it is a comparison without bool, and no other operand of it returns series
// regardless.
func MayBeEmpty(condition parser.Expr) bool {
	switch e := condition.(type) {
	case *parser.ParenExpr:
		return MayBeEmpty(e.Expr)
	case *parser.BinaryExpr:
		switch e.Op {
		case parser.LOR:
			return MayBeEmpty(e.LHS) && MayBeEmpty(e.RHS)
		case parser.LAND:
			return MayBeEmpty(e.LHS) || MayBeEmpty(e.RHS)
		case parser.LUNLESS:
			return true
		default:
			return e.Op.IsComparisonOperator() && !e.ReturnBool
		}
	default:
		return false
	}
}

// levels returns an upper bound of the depth of a query's syntax tree. It reads
// tokens only, in linear time. Operators in a row are levels of the tree, too.
func levels(query string) int {
	lexer, item := parser.Lex(query), parser.Item{}
	current, outer := level{}, []level(nil)
	for {
		lexer.NextItem(&item)
		switch item.Typ {
		case parser.LEFT_PAREN, parser.LEFT_BRACE, parser.LEFT_BRACKET:
			current.inRow++
			outer, current = append(outer, current), level{}
		case parser.RIGHT_PAREN, parser.RIGHT_BRACE, parser.RIGHT_BRACKET:
			if last := len(outer) - 1; last >= 0 { // otherwise the parser reports it
				outer, current = outer[:last], outer[last].around(current)
			}
		case parser.COMMA:
			current = level{before: current.depth()}
		case parser.OFFSET, parser.AT:
			current.inRow++
		case parser.EOF, parser.ERROR:
			for _, o := range slices.Backward(outer) { // brackets that are not closed
				current = o.around(current)
			}
			return current.depth()
		default:
			if item.Typ.IsOperator() {
				current.inRow++
			}
		}
	}
}

// level is what is read between two brackets.
type level struct {
	// inRow counts the operators and brackets since the last comma.
	inRow int
	// inside is the depth of the deepest of these brackets.
	inside int
	// before is the greatest depth of what is before the last comma.
	before int
}

func (l level) depth() int { return max(l.before, l.inRow+l.inside) }

// around returns the level with a bracket closed.
func (l level) around(bracket level) level {
	l.inside = max(l.inside, bracket.depth())
	return l
}
