package experiments

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// source has the types of the format and their comments, which are the descriptions
// in the schema and in the reference pages.
//
//go:embed experiment.go
var source string

// SchemaID is the identifier of the schema.
const SchemaID = "https://squall.dev/schema/v1alpha1/experiment.json"

// Schema returns the JSON Schema (2020-12) of an experiment document, made from the
// types in this package. files.Load refuses every document that the schema refuses,
// and some more.
func Schema() ([]byte, error) {
	comments, err := fieldComments()
	if err != nil {
		return nil, err
	}
	reflector := jsonschema.Reflector{
		RequiredFromJSONSchemaTags: true,
		Mapper:                     valueSchema,
		LookupComment:              func(t reflect.Type, field string) string { return comments[t.Name()+"."+field] },
	}
	schema := reflector.Reflect(&Experiment{})
	schema.ID, schema.Title = SchemaID, "Squall experiment"
	one := uint64(1)
	schema.Definitions["StringMatch"].MaxProperties = &one
	schema.Definitions["Caller"].OneOf = []*jsonschema.Schema{{Required: []string{"namespace"}}, {Required: []string{"gateway"}, Not: &jsonschema.Schema{Required: []string{"labels"}}}}
	schema.Definitions["Gateway"].Properties.GetPair("labels").Value.MinProperties = &one
	schema.Definitions["Abort"].MinProperties, schema.Definitions["Abort"].MaxProperties = &one, &one
	encoded, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return append(encoded, '\n'), nil
}

// fieldComments returns the comment of each type, by "Type.", and of each field, by
// "Type.Field", as one line.
func fieldComments() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "experiment.go", source, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	comments := map[string]string{}
	text := func(group *ast.CommentGroup) string { return strings.Join(strings.Fields(group.Text()), " ") }
	for _, declaration := range file.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			named, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			comments[named.Name.Name+"."] = text(general.Doc)
			structure, ok := named.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range structure.Fields.List {
				for _, name := range field.Names {
					comments[named.Name.Name+"."+name.Name] = text(field.Doc)
				}
			}
		}
	}
	return comments, nil
}

const durationPattern = `^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*$`

// valueSchema returns the schema of the types that decode themselves, and nil for
// other types.
func valueSchema(t reflect.Type) *jsonschema.Schema {
	text := func(pattern string, examples ...any) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern, Examples: examples}
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return text(durationPattern, "30s", "1m30s")
	case reflect.TypeFor[Share]():
		return text(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?%$`, "5%")
	case reflect.TypeFor[Window]():
		return text(`^\s*([A-Za-z,-]+\s+)?[0-9]{1,2}:[0-9]{2}-[0-9]{1,2}:[0-9]{2}\s*$`, "Mon-Fri 09:30-16:30", "08:00-18:00")
	case reflect.TypeFor[Dates]():
		return text(`^[0-9]{4}-[0-9]{2}-[0-9]{2}(/[0-9]{4}-[0-9]{2}-[0-9]{2})?$`, "2026-12-24", "2026-12-21/2027-01-04")
	case reflect.TypeFor[Phase]():
		return &jsonschema.Schema{Type: "string", Enum: []any{Before, During, After}}
	case reflect.TypeFor[Bound]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "number"}, text(durationPattern, "800ms")}}
	case reflect.TypeFor[Percentage]():
		share := &jsonschema.Schema{Type: "number", Minimum: json.Number(strconv.FormatFloat(SmallestPercentage, 'f', -1, 64)), Maximum: "100"}
		wrapped := jsonschema.NewProperties()
		wrapped.Set("value", share)
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{share, {Type: "object", Properties: wrapped, Required: []string{"value"}, AdditionalProperties: jsonschema.FalseSchema}}}
	default:
		return nil
	}
}
