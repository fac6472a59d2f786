package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/effect"
)

// guarantee says what follows from the measurements: how long the fault of a run that
// dies stays, how late a deviation is seen, and when calls are proven to be clean.
func guarantee(late, scrapes, push measured) Check {
	const name = "guarantee"
	parts := []string{fmt.Sprintf("the objects of a run that dies are gone after about %s", rounded(runner.DefaultTiming().Deadline+late.Duration))}
	var unknown []string
	if push.known {
		parts[0] += fmt.Sprintf(", and its fault from the proxies %s later", push.Duration)
	} else {
		unknown = append(unknown, "how long istiod's pushes take")
	}
	if scrapes.known {
		proven := effect.PushDelay + 2*scrapes.Duration
		parts = append(parts, fmt.Sprintf("a deviation is seen up to %s late", scrapes.Duration), fmt.Sprintf("calls are proven clean about %s after a rollback, without delays and dropped requests", proven.Round(time.Second)))
	} else {
		unknown = append(unknown, "how often the proxies are scraped")
	}
	check := ok(name, "%s", strings.Join(parts, "; "))
	if len(unknown) > 0 {
		check.Status = Warning
		check.Detail += "; not known: " + strings.Join(unknown, ", ")
		check.Hint = "see the checks above"
	}
	return check
}
