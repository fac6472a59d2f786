package metrics_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is the part of Grafana's dashboard model that the tests use.
type dashboard struct {
	UID        string
	Panels     []panel
	Templating struct {
		List []struct {
			Name, Type, Definition string
			Datasource             struct{ UID string }
		}
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ Type, UID string }
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		Expr       string
		Datasource struct{ UID string }
	}
}

func loadDashboard(t *testing.T) dashboard {
	t.Helper()
	content, err := os.ReadFile("../../../deploy/grafana/squall.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) < 20 {
		t.Fatalf("only %d panels", len(d.Panels))
	}
	return d
}

// query replaces Grafana's variables in a query.
func query(expression string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$__range", "1m", "$job", ".+", "$experiment", ".+").Replace(expression)
}

func TestDashboardAsksForWhatIsExposed(t *testing.T) {
	all := exposed(t)
	asked := map[string]bool{}
	for _, p := range loadDashboard(t).Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			if err := asks(all, query(target.Expr)); err != nil {
				t.Errorf("%s: %v", p.Title, err)
			}
			if !strings.Contains(target.Expr, `job=~"$job"`) {
				t.Errorf("%s looks at other jobs too: %s", p.Title, target.Expr)
			}
			asked[regexp.MustCompile(`squall_\w+`).FindString(target.Expr)] = true
		}
	}
	for name, m := range all {
		if m.kind == "histogram" {
			name += "_bucket"
		}
		if strings.HasPrefix(name, "squall_") && !asked[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

func TestDashboardIsWhole(t *testing.T) {
	d := loadDashboard(t)
	var ids []int
	var cells [][2]int
	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) {
			t.Errorf("%s has the id of another panel", p.Title)
		}
		ids = append(ids, p.ID)
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if x > 23 || slices.Contains(cells, [2]int{x, y}) {
					t.Fatalf("%s lies on another panel or beside the grid", p.Title)
				}
				cells = append(cells, [2]int{x, y})
			}
		}
		if p.Type == "row" {
			continue
		}
		if !slices.Contains([]string{"stat", "timeseries", "table", "heatmap"}, p.Type) {
			t.Errorf("%s needs the plugin %s", p.Title, p.Type)
		}
		if p.Title == "" || !strings.HasSuffix(p.Description, ".") || p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("panel %d has no title, description or unit", p.ID)
		}
		for _, target := range p.Targets {
			if p.Datasource.UID != "${datasource}" || target.Datasource.UID != "${datasource}" {
				t.Errorf("%s has a data source of its own", p.Title)
			}
		}
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Type+" "+v.Name)
	}
	if want := []string{"datasource datasource", "query job", "query experiment"}; !slices.Equal(variables, want) {
		t.Errorf("variables %q instead of %q", variables, want)
	}
}
