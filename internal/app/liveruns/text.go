package liveruns

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/mesh/objects"
)

// WriteText prints a line for each fault, and a line for a run without a fault.
func WriteText(out io.Writer, listing Listing) error {
	if hold := listing.Hold; hold != nil {
		fmt.Fprintf(out, "%s (%s); release the hold: %s\n", oneline.Cell(hold.String()), until(hold.Until, listing.Time), hold.Release())
	}
	if len(listing.Runs) == 0 {
		_, err := fmt.Fprintln(out, listing.None(Live))
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "RUN\tEXPERIMENT\tHOST\tCALLERS\tAGE\tEXPIRES\tHEARTBEAT\tOWNER\tPHASE\tSTATE")
	for _, run := range listing.Runs {
		faults := run.Faults
		if len(faults) == 0 {
			faults = []objects.ActiveFault{{Created: run.Created}}
		}
		for _, fault := range faults {
			fmt.Fprintln(table, strings.Join([]string{
				oneline.Cell(run.ID), oneline.Cell(run.Experiment), oneline.Cell(fault.Host), oneline.Cell(fault.Callers),
				duration.HumanDuration(listing.Time.Sub(fault.Created)), until(run.Expires, listing.Time), until(fault.Heartbeat, listing.Time),
				oneline.Cell(run.Owner), oneline.Cell(run.Phase), oneline.Cell(stateInWords(run, fault)),
			}, "\t"))
		}
	}
	return table.Flush()
}

// until returns the time from now to a moment in words.
func until(moment, now time.Time) string {
	switch left := moment.Sub(now); {
	case moment.IsZero():
		return "-"
	case left < 0:
		return duration.HumanDuration(-left) + " ago"
	default:
		return "in " + duration.HumanDuration(left)
	}
}

func stateInWords(run objects.ActiveRun, fault objects.ActiveFault) string {
	var marks []string
	if len(run.Faults) == 0 {
		marks = append(marks, "no fault")
	}
	if fault.Withdrawn {
		marks = append(marks, "no fault")
	}
	if len(fault.Finalizers) > 0 {
		marks = append(marks, "kept by "+strings.Join(fault.Finalizers, ", "))
	}
	if run.Expired {
		marks = append(marks, "EXPIRED")
	}
	if fault.Orphaned {
		marks = append(marks, "ORPHANED")
	}
	if run.StoppedBy != "" {
		marks = append(marks, "stopped by "+run.StoppedBy)
	}
	if len(marks) == 0 {
		return "live"
	}
	return strings.Join(slices.Compact(marks), ", ")
}

// WriteUnread prints the permissions that were missing to list more.
func WriteUnread(w io.Writer, listing Listing) {
	for _, u := range listing.Unread {
		switch u.Kind {
		case "VirtualService":
			fmt.Fprintf(w, "squall: not permitted: %s; only namespace %s is listed (-n names another), and other namespaces may have faults on the calls from it\n", u, listing.Namespace)
		case objects.UnreadRuns:
			fmt.Fprintf(w, "squall: not permitted: %s; runs that have no fault now are not listed\n", u)
		case "Job":
			fmt.Fprintf(w, "squall: not permitted: %s; heartbeats there are unknown\n", u)
		default:
			fmt.Fprintf(w, "squall: not permitted: %s; destinations of blackholes there are unknown\n", u)
		}
	}
}

// Kind is a kind of faults that a listing may not have.
type Kind string

// The kinds.
const (
	Live    Kind = "live"
	Expired Kind = "expired"
)

// None returns the text for a listing without faults of a kind. It does not say that
// there are none where they may not be listed.
func (l Listing) None(kind Kind) string {
	switch {
	case l.Namespace == "":
		return fmt.Sprintf("no %s faults", kind)
	case l.Complete():
		return fmt.Sprintf("no %s faults on the calls from namespace %s or in it", kind, l.Namespace)
	default:
		return fmt.Sprintf("nothing is %s in namespace %s; other namespaces, which may not be listed, may have faults on the calls from it", kind, l.Namespace)
	}
}
