// Command shape is a go vet tool with the rules about the shape of code that
// golangci-lint does not have: composite literals of the repository's structs
// are keyed, and neither a type nor a package grows too large.
//
//	go vet -vettool=bin/shape ./...
package main

import (
	"go/ast"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/unitchecker"
)

const (
	// module is the prefix of the import paths that the rules are for.
	module = "github.com/squall-chaos/squall"
	// maxFunction is the largest number of lines of a function, from func to its
	// closing brace.
	maxFunction = 60
	// maxMethods is the largest number of methods that a type may have.
	maxMethods = 20
	// maxLines is the largest number of lines that a package may have,
	// comments included and tests excluded.
	maxLines = 1600
)

func main() { unitchecker.Main(keyed(), functions(), methods(), lines()) }

// keyed reports composite literals of struct types of this module that have at
// least two elements and no field names. Its fixes add the names. Anonymous
// structs are not reported: their fields are declared at the literal.
func keyed() *analysis.Analyzer {
	return &analysis.Analyzer{
		Name: "keyed",
		Doc:  "report composite literals without field names",
		Run: func(pass *analysis.Pass) (any, error) {
			for _, file := range production(pass) {
				ast.Inspect(file, func(node ast.Node) bool {
					if literal, ok := node.(*ast.CompositeLit); ok {
						checkLiteral(pass, literal)
					}
					return true
				})
			}
			return nil, nil
		},
	}
}

func checkLiteral(pass *analysis.Pass, literal *ast.CompositeLit) {
	if len(literal.Elts) < 2 {
		return
	}
	if _, isKeyed := literal.Elts[0].(*ast.KeyValueExpr); isKeyed {
		return
	}
	t := pass.TypesInfo.TypeOf(literal)
	if pointer, ok := t.Underlying().(*types.Pointer); ok { // an element of a []*T
		t = pointer.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg() == nil || !strings.HasPrefix(named.Obj().Pkg().Path(), module) {
		return
	}
	structure, ok := t.Underlying().(*types.Struct)
	if !ok {
		return
	}
	var edits []analysis.TextEdit
	for i, element := range literal.Elts {
		edits = append(edits, analysis.TextEdit{Pos: element.Pos(), End: element.Pos(), NewText: []byte(structure.Field(i).Name() + ": ")})
	}
	pass.Report(analysis.Diagnostic{
		Pos: literal.Pos(), End: literal.End(), Message: "composite literal of " + named.Obj().Name() + " without field names",
		SuggestedFixes: []analysis.SuggestedFix{{Message: "add the names of the fields", TextEdits: edits}},
	})
}

// functions reports functions with too many lines.
func functions() *analysis.Analyzer {
	return &analysis.Analyzer{
		Name: "functions",
		Doc:  "report functions with too many lines",
		Run: func(pass *analysis.Pass) (any, error) {
			for _, file := range production(pass) {
				for _, declaration := range file.Decls {
					function, ok := declaration.(*ast.FuncDecl)
					if !ok {
						continue
					}
					n := pass.Fset.Position(function.End()).Line - pass.Fset.Position(function.Pos()).Line + 1
					if n > maxFunction {
						pass.Reportf(function.Pos(), "%s has %d lines; the limit is %d", function.Name.Name, n, maxFunction)
					}
				}
			}
			return nil, nil
		},
	}
}

// methods reports types with too many methods.
func methods() *analysis.Analyzer {
	return &analysis.Analyzer{
		Name: "methods",
		Doc:  "report types with too many methods",
		Run: func(pass *analysis.Pass) (any, error) {
			scope := pass.Pkg.Scope()
			for _, name := range scope.Names() {
				named, ok := scope.Lookup(name).Type().(*types.Named)
				if !ok || scope.Lookup(name) != named.Obj() || strings.HasSuffix(pass.Fset.Position(named.Obj().Pos()).Filename, "_test.go") {
					continue
				}
				if n := named.NumMethods(); n > maxMethods {
					pass.Reportf(named.Obj().Pos(), "%s has %d methods; the limit is %d", name, n, maxMethods)
				}
			}
			return nil, nil
		},
	}
}

// lines reports packages with too many lines.
func lines() *analysis.Analyzer {
	return &analysis.Analyzer{
		Name: "lines",
		Doc:  "report packages with too many lines",
		Run: func(pass *analysis.Pass) (any, error) {
			total := 0
			files := production(pass)
			for _, file := range files {
				total += pass.Fset.File(file.Pos()).LineCount()
			}
			if total > maxLines {
				pass.Reportf(files[0].Name.Pos(), "package %s has %d lines; the limit is %d", pass.Pkg.Name(), total, maxLines)
			}
			return nil, nil
		},
	}
}

// production returns the files of a package that are part of a program.
func production(pass *analysis.Pass) []*ast.File {
	var files []*ast.File
	for _, file := range pass.Files {
		name := pass.Fset.Position(file.Pos()).Filename
		if !strings.HasSuffix(name, "_test.go") && !ast.IsGenerated(file) {
			files = append(files, file)
		}
	}
	return files
}
