package records

import (
	"testing"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/reports"
)

func TestSurvived(t *testing.T) {
	got := survived("run-1", func() known {
		var fault experiments.Fault
		return known{summary: reports.Summary{Title: string(fault.Abort.GRPCStatus)}}
	})
	if got.file != nil || got.summary.Run != "run-1" || got.summary.State() != "unreadable" || got.summary.Error != "journal: it cannot be interpreted: runtime error: invalid memory address or nil pointer dereference" {
		t.Errorf("%+v", got)
	}
	if got := survived("run-1", func() known { return known{summary: reports.Summary{Run: "run-2"}} }); got.summary.Run != "run-2" {
		t.Errorf("%+v", got)
	}
}
