package schedule_test

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
)

// model finds the starts of a schedule by a separate, slow and simple algorithm:
// it checks every minute.
type model struct {
	fields  [5][]bool // minute, hour, day of month, month, day of week
	stars   [5]bool
	windows []string
	except  []string
	// shown holds the minutes that the clock has shown, for the hour that is
	// repeated.
	shown map[string]bool
}

var descriptors = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
}

func newModel(s experiments.Schedule) *model {
	expression := s.Cron
	if long, ok := descriptors[expression]; ok {
		expression = long
	}
	m := &model{shown: map[string]bool{}}
	for i, text := range strings.Fields(expression) {
		m.stars[i] = text == "*"
		m.fields[i] = parseField(text, [...]int{0, 0, 1, 1, 0}[i], [...]int{59, 23, 31, 12, 6}[i])
	}
	for _, w := range s.Windows {
		text, _ := w.MarshalText()
		m.windows = append(m.windows, string(text))
	}
	for _, d := range s.Except {
		text, _ := d.MarshalText()
		m.except = append(m.except, string(text))
	}
	return m
}

// parseField reads *, */n, a, a-b, a-b/n and lists of them.
func parseField(text string, low, high int) []bool {
	values := make([]bool, high+1)
	for item := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(item, "/")
		from, to, step := low, high, 1
		if span != "*" {
			first, last, isRange := strings.Cut(span, "-")
			from = atoi(first)
			switch {
			case isRange:
				to = atoi(last)
			case !stepped:
				to = from
			}
		}
		if stepped {
			step = atoi(stepText)
		}
		for value := from; value <= to; value += step {
			values[value] = true
		}
	}
	return values
}

func atoi(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

// walk checks every minute of UTC and returns the starts of each model. The offset
// of the zone must be a multiple of a minute there.
func walk(from, to time.Time, zone *time.Location, models ...*model) [][]time.Time {
	found := make([][]time.Time, len(models))
	for t := from.Truncate(time.Minute).UTC(); t.Before(to); t = t.Add(time.Minute) {
		local := t.In(zone)
		values := [5]int{local.Minute(), local.Hour(), local.Day(), int(local.Month()), int(local.Weekday())}
		for i, m := range models {
			if m.matches(local, values) && !t.Before(from) {
				found[i] = append(found[i], t)
			}
		}
	}
	return found
}

func (m *model) matches(t time.Time, values [5]int) bool {
	if !m.fields[0][values[0]] || !m.fields[1][values[1]] || !m.fields[3][values[3]] {
		return false
	}
	month, week := m.fields[2][values[2]], m.fields[4][values[4]]
	if m.stars[2] || m.stars[4] {
		if !month || !week {
			return false
		}
	} else if !month && !week {
		return false
	}
	clock := t.Format("2006-01-02 15:04")
	again := m.shown[clock]
	m.shown[clock] = true
	return (!again || m.stars[1]) && m.allowed(clock, t.Weekday())
}

// allowed checks the windows and excluded dates by comparing text.
func (m *model) allowed(clock string, weekday time.Weekday) bool {
	date, hour := clock[:10], clock[11:]
	for _, dates := range m.except {
		first, last, isRange := strings.Cut(dates, "/")
		if date == first || isRange && first <= date && date <= last {
			return false
		}
	}
	return len(m.windows) == 0 || slices.ContainsFunc(m.windows, func(w string) bool {
		days, span, _ := strings.Cut(w, " ")
		from, to, _ := strings.Cut(span, "-")
		return onDays(days, weekday) && from <= hour && hour < to
	})
}

// onDays parses Mon-Fri, which may wrap around the end of the week, and Sat,Sun.
func onDays(days string, weekday time.Weekday) bool {
	const week = "SunMonTueWedThuFriSat"
	day := int(weekday) * 3
	if first, last, isRange := strings.Cut(days, "-"); isRange {
		from, to := strings.Index(week, first), strings.Index(week, last)
		if from <= to {
			return from <= day && day <= to
		}
		return day >= from || day <= to
	}
	return strings.Contains(days, week[day:day+3])
}
