// Command helm renders a Helm chart to stdout with Helm's own library, as helm
// template does. It fails if helm lint would report anything, if the chart has no
// valid JSON schema, or if the schema refuses the values.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/releaseutil"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "helm-render:", err)
		os.Exit(1)
	}
}

// request has the parameters of a rendering.
type request struct {
	chart, release, namespace string
	values                    []string
	notes                     bool
}

func run(args []string, stdout, stderr io.Writer) error {
	r := request{}
	flags := flag.NewFlagSet("helm-render", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: helm-render [flags] CHART [VALUES...]")
		flags.PrintDefaults()
	}
	flags.StringVar(&r.release, "release", "squall", "name of the release")
	flags.StringVar(&r.namespace, "n", "default", "namespace of the release")
	flags.BoolVar(&r.notes, "notes", false, "print the notes of helm install instead of the objects")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return errors.New("missing argument: CHART")
	}
	r.chart, r.values = flags.Arg(0), flags.Args()[1:]
	rendered, err := r.render()
	if err != nil {
		return err
	}
	_, err = io.WriteString(stdout, rendered)
	return err
}

// render returns the objects, in the order in which Helm installs them.
func (r request) render() (string, error) {
	log.SetOutput(io.Discard) // Helm logs each symbolic link; the links of the chart are intended
	values, err := merged(r.values)
	if err != nil {
		return "", err
	}
	loaded, err := loader.Load(r.chart)
	if err != nil {
		return "", fmt.Errorf("chart: %w", err)
	}
	if err := checkSchema(r.chart); err != nil {
		return "", err
	}
	// Before lint, which renders too, but with less precise errors.
	files, err := r.files(loaded, values)
	if err != nil {
		return "", err
	}
	if err := r.lint(values); err != nil {
		return "", err
	}
	notes := ""
	maps.DeleteFunc(files, func(name, content string) bool {
		if !strings.HasSuffix(name, "/NOTES.txt") {
			return false
		}
		notes = content
		return true
	})
	if r.notes {
		return notes, nil
	}
	return ordered(files)
}

// merged reads files of values; later files take precedence.
func merged(files []string) (map[string]any, error) {
	values := map[string]any{}
	for _, file := range files {
		read, err := chartutil.ReadValuesFile(file)
		if err != nil {
			return nil, fmt.Errorf("values %s: %w", file, err)
		}
		values = chartutil.MergeTables(read, values)
	}
	return values, nil
}

// checkSchema returns an error unless the chart has a valid schema.
func checkSchema(dir string) error {
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7)
	if _, err := compiler.Compile(filepath.Join(dir, "values.schema.json")); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	return nil
}

// files renders every template. The values are validated against the schema.
func (r request) files(loaded *chart.Chart, values map[string]any) (map[string]string, error) {
	options := chartutil.ReleaseOptions{Name: r.release, Namespace: r.namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(loaded, values, options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(loaded, all)
}

// lint returns an error if helm lint reports an error or a warning.
func (r request) lint(values map[string]any) error {
	linter := lint.AllWithKubeVersion(r.chart, values, r.namespace, nil)
	var problems []error
	for _, message := range linter.Messages {
		if message.Severity > support.InfoSev {
			problems = append(problems, message)
		}
	}
	return errors.Join(problems...)
}

func ordered(files map[string]string) (string, error) {
	hooks, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", err
	}
	if len(hooks) > 0 {
		return "", fmt.Errorf("hook %s: hooks are not rendered", hooks[0].Name)
	}
	var out strings.Builder
	for _, manifest := range manifests {
		fmt.Fprintf(&out, "---\n# Source: %s\n%s\n", manifest.Name, strings.TrimSpace(manifest.Content))
	}
	return out.String(), nil
}
