package files_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/squall-chaos/squall/experiments"
)

// compile returns the schema as compiled by an independent validator.
func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := experiments.Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(experiments.SchemaID, document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(experiments.SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validate checks every document of a file against the schema.
func validate(t *testing.T, schema *jsonschema.Schema, content []byte) error {
	t.Helper()
	documents := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var value any
		if err := documents.Decode(&value); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			return err
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
		if err != nil {
			return err
		}
		if err := schema.Validate(instance); err != nil {
			return err
		}
	}
}

func TestSchemaAcceptsWhatLoads(t *testing.T) {
	schema := compile(t)
	library, err := filepath.Glob("../library/*.yaml")
	if err != nil || len(library) == 0 {
		t.Fatalf("no library: %v", err)
	}
	for _, name := range append(library, "testdata/everything.yaml") {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// Dates without quotes are text to Load and a timestamp to others.
		content = bytes.ReplaceAll(content, []byte("2026-12-21/2027-01-04, 2026-05-01"), []byte(`"2026-12-21/2027-01-04", "2026-05-01"`))
		if err := validate(t, schema, content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := validate(t, schema, []byte(minimal)); err != nil {
		t.Error(err)
	}
}

// Load refuses every file that the schema refuses. The schema refuses the files with
// a wrong structure.
func TestSchemaRefusesWrongShapes(t *testing.T) {
	schema := compile(t)
	archive, err := txtar.ParseFile("testdata/structure.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range archive.Files {
		switch file.Name {
		case "same-name.yaml", "duplicate-key.yaml": // about more than one value
		default:
			if strings.HasSuffix(file.Name, ".yaml") && validate(t, schema, file.Data) == nil {
				t.Errorf("%s is accepted", file.Name)
			}
		}
	}
}

// Every field has a description, because the schema is what an editor shows.
func TestSchemaDescribesEverything(t *testing.T) {
	text, err := experiments.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Definitions map[string]struct {
			Description string                    `json:"description"`
			Properties  map[string]map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	if len(schema.Definitions) < 15 {
		t.Errorf("only %d definitions", len(schema.Definitions))
	}
	for name, definition := range schema.Definitions {
		if definition.Description == "" {
			t.Errorf("%s has no description", name)
		}
		for field, property := range definition.Properties {
			if property["description"] == nil {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
}
