package event_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
)

// everyEvent returns the lines of journals of earlier versions, which have every type
// of event.
func everyEvent(t *testing.T) []journal.Line {
	t.Helper()
	var all []journal.Line
	for _, name := range []string{"v1-every-event.jsonl", "v1-clean.jsonl"} {
		file, err := os.Open(filepath.Join("..", "..", "reports", "testdata", "journals", name))
		if err != nil {
			t.Fatal(err)
		}
		lines, err := journal.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, lines...)
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestTheFormatDoesNotChange(t *testing.T) {
	seen := map[reflect.Type]bool{}
	for i, line := range everyEvent(t) {
		e, err := event.Decode(line)
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		again, err := event.Encode(line.Time, e)
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		again.Schema = line.Schema
		want, _ := json.Marshal(line)
		got, _ := json.Marshal(again)
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("line %d: %s", i+1, diff)
		}
		seen[reflect.TypeOf(e)] = true
	}
	for _, e := range event.All() {
		if !seen[reflect.TypeOf(e)] {
			t.Errorf("the journal has no %T", e)
		}
	}
}

// TestEveryEventIsRegistered compares the registry with the types of the package
// that have the methods of Event.
func TestEveryEventIsRegistered(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if method, is := decl.(*ast.FuncDecl); is && method.Name.Name == "sealed" {
				want = append(want, method.Recv.List[0].Type.(*ast.Ident).Name)
			}
		}
	}
	var got []string
	types := map[string]bool{}
	for _, e := range event.All() {
		got = append(got, reflect.TypeOf(e).Name())
		if types[e.Type()] {
			t.Errorf("two events have the type %s", e.Type())
		}
		types[e.Type()] = true
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	_, err := event.Decode(journal.Line{Type: "from-the-future", Data: []byte(`{}`)})
	if unknown, is := errors.AsType[*event.UnknownTypeError](err); !is || unknown.Type != "from-the-future" {
		t.Errorf("an unknown type: error %v", err)
	}
	_, err = event.Decode(journal.Line{Type: "phase", Data: []byte(`[]`)})
	if _, is := errors.AsType[*event.UnknownTypeError](err); err == nil || is {
		t.Errorf("data of another type: error %v", err)
	}
}

func TestFanout(t *testing.T) {
	full := errors.New("no space left on device")
	var got []string
	recorder := func(name string, err error) event.Recorder {
		return event.RecorderFunc(func(at time.Time, e event.Event) error {
			got = append(got, name+" "+e.Type()+" "+at.Format(time.DateOnly))
			return err
		})
	}
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	if err := event.Fanout(recorder("a", nil), recorder("b", nil)).Record(day, event.Started{}); err != nil {
		t.Error(err)
	}
	if err := event.Fanout(recorder("c", nil), recorder("d", full), recorder("e", nil)).Record(day, event.Finished{}); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	want := []string{"a started 2026-01-02", "b started 2026-01-02", "c finished 2026-01-02", "d finished 2026-01-02"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
