package metrics_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const page = "../../../docs/reference/metrics.md"

var (
	block   = regexp.MustCompile(`(?ms)^<!-- (metrics|alerts) -->\n(.*?)^<!-- end -->$`)
	heading = regexp.MustCompile(`(?m)^### (.*)$`)
)

// The tables of the documentation match the registry and the rules. With
// -update they are written again.
func TestDocumentedTablesAreCurrent(t *testing.T) {
	content := readPage(t)
	tables := map[string]string{"metrics": metricsTable(t), "alerts": alertsTable(t)}
	current := block.ReplaceAllStringFunc(content, func(found string) string {
		name := block.FindStringSubmatch(found)[1]
		table := tables[name]
		delete(tables, name)
		return fmt.Sprintf("<!-- %s -->\n\n%s\n<!-- end -->", name, table)
	})
	if len(tables) > 0 {
		t.Errorf("%s has no place for %v", page, slices.Collect(maps.Keys(tables)))
	}
	if *update {
		if err := os.WriteFile(page, []byte(current), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(content, current); diff != "" {
		t.Errorf("%s is not current; go test ./internal/app/metrics -update writes it: %s", page, diff)
	}
}

func readPage(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func metricsTable(t *testing.T) string {
	t.Helper()
	all := exposed(t)
	var b strings.Builder
	b.WriteString("| metric | kind | labels | description |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if m := all[name]; strings.HasPrefix(name, "squall_") {
			labels := slices.Sorted(maps.Keys(m.labels))
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, m.kind, strings.Join(labels, ", "), m.help)
		}
	}
	return b.String()
}

func alertsTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| alert | severity | after | summary |\n|---|---|---|---|\n")
	for _, alert := range alerts(t) {
		after := "at once"
		if alert.For != 0 {
			after = alert.For.String()
		}
		says := regexp.MustCompile(`{{.*?(\w+) (\| \w+ )?}}`).ReplaceAllString(alert.Annotations["summary"], "*$1*")
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s |\n", alert.Alert, strings.ToLower(alert.Alert), alert.Labels["severity"], after, says)
	}
	return b.String()
}

// Every alert is explained, in the order of the file.
func TestAlertsAreExplained(t *testing.T) {
	var want, got []string
	for _, alert := range alerts(t) {
		want = append(want, alert.Alert)
	}
	for _, found := range heading.FindAllStringSubmatch(readPage(t), -1) {
		got = append(got, found[1])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("alerts and their explanations (-want +got):\n%s", diff)
	}
}

// Every value of the label reason is explained.
func TestReasonsAreExplained(t *testing.T) {
	content := readPage(t)
	reasons := exposed(t)["squall_starts_skipped_total"].labels["reason"]
	if len(reasons) != strings.Count(content, "\n| `")-strings.Count(content, "\n| `squall_") {
		t.Errorf("the table of reasons does not have these: %q", reasons)
	}
	for _, reason := range reasons {
		if !strings.Contains(content, "\n| `"+reason+"` |") {
			t.Errorf("nothing explains the reason %q", reason)
		}
	}
}
