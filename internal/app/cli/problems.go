package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/reports"
)

// invalid returns the error that ends the program because of err, which is one of
// usage. It prints the problems of files, a line for each.
func invalid(env Env, err error) error {
	if problems, ok := errors.AsType[problem.List](err); ok {
		printProblems(env, problems)
		return exit.With(exit.Usage)
	}
	return err
}

// printProblems prints the problems of files to stderr, a line for each. In a job of
// GitHub Actions each is an annotation of the file, too.
func printProblems(env Env, problems problem.List) {
	fmt.Fprintln(env.Stderr, problems.Error())
	if env.Getenv("GITHUB_ACTIONS") != "true" {
		return
	}
	for _, p := range problems {
		place := problem.Problem{File: p.File, Line: p.Line, Column: p.Column}
		_ = reports.FileAnnotation(env.Stderr, p.File, p.Line, p.Column, strings.TrimPrefix(p.String(), place.String())) // the line above has all of it
	}
}
