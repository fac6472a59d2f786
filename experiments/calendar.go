package experiments

import (
	"fmt"
	"slices"
	"strings"
	"time"

	_ "time/tzdata" // a schedule's time zone must not depend on the machine

	"github.com/robfig/cron/v3"
	"gopkg.in/yaml.v3"

	"github.com/squall-chaos/squall/experiments/strictyaml"
)

// Window is a time of day on some days of the week: Mon-Fri 09:30-16:30.
type Window struct {
	text string
	days [7]bool // from Sunday on
	// from and to are minutes of the day; to is not part of the window.
	from, to int
}

const windowRemedy = "write it as Mon-Fri 09:30-16:30, Sat,Sun 10:00-12:00 or 08:00-18:00"

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} //nolint:gochecknoglobals // a constant list

// MarshalText returns the window as it was written.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.text), nil }

// UnmarshalText reads a window.
func (w *Window) UnmarshalText(text []byte) error {
	parts := strings.Fields(string(text))
	*w = Window{text: string(text), days: [7]bool{true, true, true, true, true, true, true}}
	switch len(parts) {
	case 1:
	case 2:
		days, err := parseDays(parts[0])
		if err != nil {
			return err
		}
		w.days = days
	default:
		return fmt.Errorf("%q is not a window", text)
	}
	from, to, ok := strings.Cut(parts[len(parts)-1], "-")
	if !ok {
		return fmt.Errorf("%q is not a span of time", parts[len(parts)-1])
	}
	var err error
	if w.from, err = parseClock(from); err != nil {
		return err
	}
	if w.to, err = parseClock(to); err != nil {
		return err
	}
	if w.from >= w.to {
		return fmt.Errorf("%s is not before %s, so no time is inside; split a window at midnight", from, to)
	}
	return nil
}

// DecodeNode implements strictyaml.NodeDecoder.
func (w *Window) DecodeNode(l *strictyaml.Decoder, node *yaml.Node, path string) {
	l.Text(node, path, w, "a window", windowRemedy)
}

// Contains reports whether a time, in its zone, is inside the window.
func (w Window) Contains(t time.Time) bool {
	minute := t.Hour()*60 + t.Minute()
	return w.days[t.Weekday()] && minute >= w.from && minute < w.to
}

// parseDays reads Mon-Fri or Sat,Sun.
func parseDays(text string) (days [7]bool, err error) {
	for item := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, to := slices.Index(weekdays, strings.ToLower(first)), slices.Index(weekdays, strings.ToLower(last))
		if from < 0 || to < 0 {
			return days, fmt.Errorf("%q is not a day of the week or a range of them", item)
		}
		for day := from; ; day = (day + 1) % 7 {
			days[day] = true
			if day == to {
				break
			}
		}
	}
	return days, nil
}

// parseClock reads 09:30 as minutes; 24:00 is the end of the day.
func parseClock(text string) (int, error) {
	if text == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time of day", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// Dates is a date or a range of dates, both ends included:
// 2026-12-21/2027-01-04.
type Dates struct {
	text        string
	first, last string // in a form that sorts
}

// MarshalText returns the dates as they were written.
func (d Dates) MarshalText() ([]byte, error) { return []byte(d.text), nil }

// UnmarshalText reads a date or a range.
func (d *Dates) UnmarshalText(text []byte) error {
	first, last, isRange := strings.Cut(string(text), "/")
	if !isRange {
		last = first
	}
	for _, date := range []string{first, last} {
		if _, err := time.Parse(time.DateOnly, date); err != nil {
			return fmt.Errorf("%q is not a date", date)
		}
	}
	if last < first {
		return fmt.Errorf("%s is before %s", last, first)
	}
	*d = Dates{text: string(text), first: first, last: last}
	return nil
}

// DecodeNode implements strictyaml.NodeDecoder.
func (d *Dates) DecodeNode(l *strictyaml.Decoder, node *yaml.Node, path string) {
	l.Text(node, path, d, "dates", "write 2026-12-24, or 2026-12-21/2027-01-04 for a range")
}

// Contains reports whether a time, in its zone, is on one of the dates.
func (d Dates) Contains(t time.Time) bool {
	date := t.Format(time.DateOnly)
	return date >= d.first && date <= d.last
}

// Location returns the schedule's time zone.
func (s Schedule) Location() (*time.Location, error) { return time.LoadLocation(s.TimeZone) }

// ParseCron parses the cron expression, in the schedule's time zone.
func (s Schedule) ParseCron() (cron.Schedule, error) {
	return cron.ParseStandard("CRON_TZ=" + s.TimeZone + " " + s.Cron)
}

// Permits returns why a run may not start at a time, and nil if it may.
func (s Schedule) Permits(t time.Time) error {
	location, err := s.Location()
	if err != nil {
		return err
	}
	return s.permits(t.In(location))
}

// permits is Permits for a time in the schedule's zone.
func (s Schedule) permits(t time.Time) error {
	if dates, excepted := s.Excepted(t); excepted {
		return fmt.Errorf("%s is excluded by %s", t.Format(time.DateOnly), dates.text)
	}
	if !s.InWindows(t) {
		return fmt.Errorf("%s is outside the windows", t.Format("Mon 15:04 MST"))
	}
	return nil
}

// Excepted returns the first of the excluded dates that a time, in its zone, is on.
func (s Schedule) Excepted(t time.Time) (d Dates, ok bool) {
	i := slices.IndexFunc(s.Except, func(d Dates) bool { return d.Contains(t) })
	if i < 0 {
		return Dates{}, false
	}
	return s.Except[i], true
}

// InWindows reports whether a time, in its zone, is inside a window. Without windows
// every time is.
func (s Schedule) InWindows(t time.Time) bool {
	return len(s.Windows) == 0 || slices.ContainsFunc(s.Windows, func(w Window) bool { return w.Contains(t) })
}
