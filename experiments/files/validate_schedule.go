package files

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/squall-chaos/squall/experiments"
)

// The days of the week fall on the same dates again after 28 years, and windows repeat
// every week, so a schedule without a start in its windows in this many starts or
// years never has one.
const (
	maxStarts = 20_000
	maxYears  = 28
)

func checkSchedule(v validator, s experiments.Schedule) {
	const path = "spec.schedule"
	v.oneOf(path+".concurrencyPolicy", string(s.ConcurrencyPolicy), string(experiments.Allow), string(experiments.Forbid), string(experiments.Replace))
	v.notNegative(path+".jitter", s.Jitter)
	v.list(path+".windows", len(s.Windows))
	v.list(path+".except", len(s.Except))
	if len(s.Windows) > maxItems {
		return
	}
	location, err := s.Location()
	if err != nil || s.TimeZone == "Local" {
		v.report(path+".timeZone", fmt.Sprintf("%q is not a time zone", s.TimeZone), "an IANA name, such as Europe/Paris")
		return
	}
	checkCron(v, path, s, location)
}

func checkCron(v validator, path string, s experiments.Schedule, location *time.Location) {
	at := path + ".cron"
	switch {
	case strings.TrimSpace(s.Cron) == "":
		v.report(at, "is missing", `five fields: minute, hour, day of month, month, day of week, such as "0 10 * * TUE"`)
		return
	case strings.Contains(s.Cron, "TZ="):
		v.report(at, "has a time zone", "write it as timeZone")
		return
	}
	parsed, err := s.ParseCron()
	if err != nil {
		message := err.Error()
		if fields := len(strings.Fields(s.Cron)); fields != 5 && !strings.HasPrefix(s.Cron, "@") {
			message = fmt.Sprintf("%d fields instead of five", fields)
		}
		v.report(at, fmt.Sprintf("%q is not a cron expression: %s", s.Cron, message), "minute, hour, day of month, month, day of week")
		return
	}
	if _, every := parsed.(cron.ConstantDelaySchedule); every {
		v.report(at, "@every counts from whenever the scheduler started", "name the minutes, such as \"*/10 * * * *\"")
		return
	}
	// A fixed date, so that a file is good or bad on every day alike; the year
	// has a 29 February.
	start := parsed.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, location).Add(-time.Second))
	if start.IsZero() {
		v.report(at, fmt.Sprintf("%q never comes", s.Cron), "no month has such a day")
		return
	}
	if len(s.Windows) == 0 || v.undecoded(path+".windows") {
		return
	}
	last := start.AddDate(maxYears, 0, 0)
	for range maxStarts {
		if s.InWindows(start) {
			return
		}
		if start = parsed.Next(start); start.IsZero() || start.After(last) {
			break
		}
	}
	v.report(path+".windows", fmt.Sprintf("no start of %q is inside them", s.Cron), "the experiment would never start; change cron or windows")
}
