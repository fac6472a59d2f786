package e2e_test

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

var promql = regexp.MustCompile("(?ms)^```promql\n(.*?)^```$")

// The queries in the documentation return one number on a healthy mesh.
func TestDocumentedQueriesGiveOneNumber(t *testing.T) {
	const file = "../../docs/hypotheses.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(api.Config{Address: "http://" + layout.Prometheus})
	if err != nil {
		t.Fatal(err)
	}
	queries := promql.FindAllSubmatchIndex(page, -1)
	if len(queries) < 10 {
		t.Errorf("only %d queries", len(queries))
	}
	for _, at := range queries {
		query := string(page[at[2]:at[3]])
		t.Run(fmt.Sprintf("line %d", 1+strings.Count(string(page[:at[0]]), "\n")), func(t *testing.T) {
			eventually(t, func() error {
				result, warnings, err := promv1.NewAPI(client).Query(t.Context(), query, time.Time{})
				if err != nil {
					return err
				}
				series, ok := result.(model.Vector)
				if !ok || len(series) != 1 || len(warnings) > 0 || !finite(series[0].Value) {
					return fmt.Errorf("%v with warnings %q instead of one number: %s", result, warnings, query)
				}
				t.Log(series[0].Value)
				return nil
			})
		})
	}
}

func finite(v model.SampleValue) bool { return !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) }
