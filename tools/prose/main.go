// Command prose copies the string literals of Go programs to text files, so
// that Vale can check them: Vale reads the comments of Go files, but not their
// messages. Each literal is on the line that it has in its source file.
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	out := flag.String("o", filepath.Join("bin", "prose"), "directory to write FILE.go.txt to, for each FILE.go")
	flag.Parse()
	for _, root := range flag.Args() {
		if err := extract(root, *out); err != nil {
			fmt.Fprintln(os.Stderr, "prose:", err)
			os.Exit(1)
		}
	}
}

// extract writes the messages of all Go files under root, except tests, to
// files of the same path under out.
func extract(root, out string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipped(entry.Name()):
			return filepath.SkipDir
		case entry.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text, err := messages(path, source)
		if err != nil || text == "" {
			return err
		}
		file := filepath.Join(out, path+".txt")
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			return err
		}
		return os.WriteFile(file, []byte(text), 0o600)
	})
}

// skipped reports whether a directory holds no source of this repository.
func skipped(name string) bool {
	return name == "testdata" || name == "bin" || name == "node_modules" || len(name) > 1 && name[0] == '.'
}

// messages returns the string literals of a Go file that contain a space, each
// on its line of the file. Import paths and struct tags are left out. The text
// is empty if the file has no such literal. It returns an error if the file
// cannot be parsed.
func messages(path string, source []byte) (string, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	lines := make([]string, files.File(file.Pos()).LineCount()+1)
	found, tags := false, map[*ast.BasicLit]bool{}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field:
			tags[node.Tag] = true
		case *ast.BasicLit:
			text, err := strconv.Unquote(node.Value)
			if node.Kind != token.STRING || err != nil || tags[node] || !strings.Contains(text, " ") {
				return true
			}
			found = true
			place(lines, files.Position(node.Pos()).Line-1, node.Value[0] == '`', text)
		}
		return true
	})
	if !found {
		return "", nil
	}
	return strings.Join(lines, "\n"), nil
}

// place adds a literal to a line. A raw literal continues on the lines after
// it; the line breaks of other literals become spaces.
func place(lines []string, at int, raw bool, text string) {
	parts := []string{strings.ReplaceAll(text, "\n", " ")}
	if raw {
		parts = strings.Split(text, "\n")
	}
	for i, part := range parts {
		if lines[at+i] != "" {
			part = lines[at+i] + " | " + part
		}
		lines[at+i] = part
	}
}
