// Package promql parses PromQL as Squall accepts it.
package promql

import "github.com/prometheus/prometheus/promql/parser"

// Parse parses a query, experimental functions included. The error is of type
// parser.ParseErrors.
func Parse(query string) (parser.Expr, error) {
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
