package reports_test

import (
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/journal"
)

// A report is rendered from a journal, here as Markdown.
func ExampleWrite() {
	file, err := os.Open("testdata/journals/v1-held.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // opened for reading
	lines, err := journal.Read(file)
	if err != nil {
		log.Fatal(err)
	}
	run, err := reports.Fold(lines)
	if err != nil {
		log.Fatal(err)
	}
	var report strings.Builder
	if err := reports.Write(&report, reports.FormatMarkdown, run); err != nil {
		log.Fatal(err)
	}
	summary, _, _ := strings.Cut(report.String(), "| probe |")
	fmt.Println(summary)
	// Output:
	// ## ✅ ratings-outage: held
	//
	// The product page survives a ratings outage
	//
	// | | |
	// |---|---|
	// | fault | abort with HTTP 503, 100 % of requests |
	// | calls | from shop (app=reviews) to ratings.prod.svc.cluster.local |
	// | placement | shadow in shop, outranks prod/ratings (public) |
	// | active | 15.005s of 15s, rolled back in 8ms |
	// | hit | at least 730 requests |
	// | run | 20261123-001123-ratings-outage-a40a60 |
}
