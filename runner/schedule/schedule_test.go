package schedule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/runner/schedule"
)

// of compiles a schedule. Semicolons separate the windows, and spaces the excluded
// dates.
func of(zone, cron, windows, except string) experiments.Schedule {
	s := experiments.Schedule{Cron: cron, TimeZone: zone}
	for text := range strings.SplitSeq(windows, ";") {
		var w experiments.Window
		if text != "" {
			must(w.UnmarshalText([]byte(text)))
			s.Windows = append(s.Windows, w)
		}
	}
	for text := range strings.FieldsSeq(except) {
		var d experiments.Dates
		must(d.UnmarshalText([]byte(text)))
		s.Except = append(s.Except, d)
	}
	return s
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func compile(t testing.TB, name string, s experiments.Schedule) schedule.Schedule {
	t.Helper()
	compiled, err := schedule.New(name, s)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func location(t testing.TB, zone string) *time.Location {
	t.Helper()
	found, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// chain follows Next from just before a time until another time.
func chain(s schedule.Schedule, from, to time.Time) (found []time.Time) {
	next, ok := s.Next(from.Add(-1))
	for ok && next.Nominal.Before(to) {
		found = append(found, next.Nominal.UTC())
		next, ok = s.Next(next.Nominal)
	}
	return found
}

func minutes(n int) experiments.Duration {
	return experiments.Duration{Duration: time.Duration(n) * time.Minute}
}

// Next agrees with the model for every minute of a year with clock changes.
func TestYear(t *testing.T) {
	t.Parallel()
	schedules := []struct{ cron, windows, except string }{
		{"*/10 * * * *", "", ""},
		{"0,30 2 * * *", "", ""},
		{"15,45 0-3 * * *", "", "2026-04-05 2026-10-20/2026-10-24"},
		{"7 23,0,1 * * *", "Sat,Sun 00:00-24:00;Mon-Fri 22:00-23:30", ""},
		{"*/7 */2 * * 1-5", "Mon-Fri 09:30-16:30", "2026-12-21/2027-01-04"},
		{"0 10 13 * 5", "", ""},
		{"0 0 29-31 1,3,9,10 *", "", ""},
		{"*/20 * */9 * *", "Fri-Mon 01:10-03:20", "2026-03-29"},
		{"@hourly", "", "2026-11-01"},
		{"@daily", "", ""},
		{"@weekly", "", ""},
		{"30 1 * * 0", "Sun 01:00-02:00", ""},
	}
	for _, zone := range []string{
		"Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata",
		"Africa/Cairo", "Europe/Dublin", "Antarctica/Troll",
	} {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			local := location(t, zone)
			from := time.Date(2026, 1, 1, 0, 0, 0, 0, local)
			to := time.Date(2027, 1, 1, 0, 0, 0, 0, local)
			var models []*model
			for _, test := range schedules {
				models = append(models, newModel(of(zone, test.cron, test.windows, test.except)))
			}
			want := walk(from, to, local, models...)
			for i, test := range schedules {
				if len(want[i]) == 0 {
					t.Errorf("%q: the model has no start", test.cron)
				}
				s := compile(t, "x", of(zone, test.cron, test.windows, test.except))
				if diff := cmp.Diff(want[i], chain(s, from, to)); diff != "" {
					t.Errorf("%q in %q except %q: %s", test.cron, test.windows, test.except, diff)
				}
			}
		})
	}
}

// The starts around each kind of clock change.
func TestClockChanges(t *testing.T) {
	for _, test := range []struct {
		name, zone, cron, from string
		want                   []string
	}{
		{"skipped", "Europe/Paris", "30 2 * * *", "2026-03-28T12:00:00Z", []string{"30 Mar 02:30 CEST", "31 Mar 02:30 CEST"}},
		{"doubled", "Europe/Paris", "30 2 * * *", "2026-10-24T12:00:00Z", []string{"25 Oct 02:30 CEST", "26 Oct 02:30 CET"}},
		{"doubled, any hour", "Europe/Paris", "30 * * * *", "2026-10-24T23:45:00Z", []string{"25 Oct 02:30 CEST", "25 Oct 02:30 CET", "25 Oct 03:30 CET"}},
		{"doubled, a step of hours", "Europe/Paris", "30 */2 * * *", "2026-10-24T23:45:00Z", []string{"25 Oct 02:30 CEST", "25 Oct 04:30 CET"}},
		{"asked between the two", "Europe/Paris", "30 2 * * *", "2026-10-25T01:00:00Z", []string{"26 Oct 02:30 CET"}},
		{"half an hour skipped", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00Z", []string{"05 Oct 02:15 +11"}},
		{"after half an hour skipped", "Australia/Lord_Howe", "0 3 * * *", "2026-10-03T12:00:00Z", []string{"04 Oct 03:00 +11"}},
		{"after half an hour doubled", "Australia/Lord_Howe", "0 2 * * *", "2026-04-04T12:00:00Z", []string{"05 Apr 02:00 +1030"}},
		{"no midnight", "America/Santiago", "0 0 * * *", "2026-09-05T12:00:00Z", []string{"07 Sep 00:00 -03"}},
		{"a day without midnight", "America/Santiago", "0 10 * * SUN", "2026-09-05T12:00:00Z", []string{"06 Sep 10:00 -03"}},
		{"no midnight", "Africa/Cairo", "@daily", "2026-04-23T12:00:00Z", []string{"25 Apr 00:00 EEST"}},
		{"the day that was left out", "Pacific/Apia", "0 10 * * *", "2011-12-29T12:00:00Z", []string{"29 Dec 10:00 -10", "31 Dec 10:00 +14"}},
		{"the day that was left out, by date", "Pacific/Apia", "0 10 30,31 12 *", "2011-12-29T12:00:00Z", []string{"31 Dec 10:00 +14"}},
		{"the last day of a leap year, far ahead", "Europe/Paris", "0 10 * * *", "2040-12-30T12:00:00Z", []string{"31 Dec 10:00 CET", "01 Jan 10:00 CET"}},
		{"eight years without 29 February", "UTC", "0 10 29 2 *", "2096-03-01T00:00:00Z", []string{"29 Feb 10:00 UTC"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			after, err := time.Parse(time.RFC3339, test.from)
			if err != nil {
				t.Fatal(err)
			}
			s := compile(t, "x", of(test.zone, test.cron, "", ""))
			var got []string
			for range test.want {
				next, ok := s.Next(after)
				if !ok {
					t.Fatalf("no start after %s", after)
				}
				got = append(got, next.Nominal.Format("02 Jan 15:04 MST"))
				after = next.Nominal
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

var zones = []string{
	"UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata",
	"Africa/Cairo", "Africa/Casablanca", "Pacific/Apia", "Pacific/Chatham", "Asia/Kathmandu", "America/St_Johns",
}

// field generates a field of a cron expression.
func field(low, high int) *rapid.Generator[string] {
	number := rapid.IntRange(low, high)
	return rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 4).Draw(t, "form") {
		case 0:
			return fmt.Sprint(number.Draw(t, "value"))
		case 1:
			return fmt.Sprintf("%d,%d", number.Draw(t, "one"), number.Draw(t, "other"))
		case 2:
			first := number.Draw(t, "first")
			return fmt.Sprintf("%d-%d", first, rapid.IntRange(first, high).Draw(t, "last"))
		case 3:
			return fmt.Sprintf("*/%d", rapid.IntRange(2, high).Draw(t, "step"))
		}
		return "*"
	})
}

var drawn = rapid.Custom(func(t *rapid.T) experiments.Schedule {
	days := []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
	var windows []string
	for range rapid.IntRange(0, 2).Draw(t, "windows") {
		from := rapid.IntRange(0, 24*60-1).Draw(t, "from")
		to := rapid.IntRange(from+1, 24*60).Draw(t, "to")
		windows = append(windows, fmt.Sprintf("%s-%s %02d:%02d-%02d:%02d", rapid.SampledFrom(days).Draw(t, "first"),
			rapid.SampledFrom(days).Draw(t, "last"), from/60, from%60, to/60, to%60))
	}
	cron := strings.Join([]string{
		field(0, 59).Draw(t, "minute"), field(0, 23).Draw(t, "hour"), field(1, 28).Draw(t, "day"),
		rapid.OneOf(rapid.Just("*"), field(1, 12)).Draw(t, "month"), field(0, 6).Draw(t, "weekday"),
	}, " ")
	s := of(rapid.SampledFrom(zones).Draw(t, "zone"), cron, strings.Join(windows, ";"),
		rapid.SampledFrom([]string{"", "2026-03-29", "2011-12-20/2012-01-02 2026-10-25", "2020-01-01/2029-12-31"}).Draw(t, "except"))
	s.Jitter = minutes(rapid.SampledFrom([]int{0, 0, 1, 7, 90, 3000}).Draw(t, "jitter"))
	s.StartingDeadline = minutes(rapid.SampledFrom([]int{0, 1, 15, 600}).Draw(t, "deadline"))
	return s
})

// moment generates a time, often near a change of the zone's clock.
func moment(t *rapid.T, zone *time.Location) time.Time {
	at := time.Unix(rapid.Int64Range(1_262_304_000, 2_208_988_800).Draw(t, "moment"), rapid.Int64Range(0, 999_999_999).Draw(t, "fraction")).In(zone)
	if _, change := at.ZoneBounds(); !change.IsZero() && rapid.IntRange(0, 3).Draw(t, "near") > 0 {
		at = change.Add(-time.Duration(rapid.Int64Range(0, int64(36*time.Hour)).Draw(t, "before")))
	}
	return at
}

// Every generated schedule agrees with the model around a change of the clock.
func TestDaysOfDrawnSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn.Draw(t, "schedule")
		compiled, err := schedule.New("x", s)
		must(err)
		zone, err := s.Location()
		must(err)
		from := moment(t, zone)
		to := from.Add(72 * time.Hour)
		m := newModel(s)
		walk(from.Add(-30*time.Hour), from, zone, m) // the minutes shown before
		if diff := cmp.Diff(walk(from, to, zone, m)[0], chain(compiled, from, to)); diff != "" {
			t.Fatalf("from %s: %s", from, diff)
		}
	})
}

func TestNextKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn.Draw(t, "schedule")
		compiled, err := schedule.New("x", s)
		must(err)
		zone, err := s.Location()
		must(err)
		after, at := moment(t, zone), time.Time{}
		for range 20 {
			next, ok := compiled.Next(after)
			if !ok {
				return
			}
			if !next.Nominal.After(after) || next.At.Before(next.Nominal) || next.At.After(next.Nominal) && next.At.Sub(next.Nominal) >= s.Jitter.Duration {
				t.Fatalf("after %s comes %+v", after, next)
			}
			if next.Nominal.Before(at) || next.At.Before(at) {
				t.Fatalf("%+v overtakes the start at %s", next, at)
			}
			if reason := s.Permits(next.Nominal); reason != nil {
				t.Fatalf("%+v: %s", next, reason)
			}
			after, at = next.Nominal, next.At
		}
	})
}

// Repeated calls of Due, with pauses of any length, handle every start once and in
// order, and never start one that must be skipped.
func TestDueKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn.Draw(t, "schedule")
		compiled, err := schedule.New("x", s)
		must(err)
		zone, err := s.Location()
		must(err)
		now := moment(t, zone)
		last := now
		for range 12 {
			now = now.Add(pause(t, compiled, last, now))
			due, ok := compiled.Due(last, now)
			following, more := compiled.Next(last)
			if !ok {
				if more && !following.At.After(now) {
					t.Fatalf("at %s, after %s, nothing is due, but %+v is", now, last, following)
				}
				continue
			}
			judge(t, s, due, last, now)
			count := 0
			for ; following.Nominal.Before(due.Nominal) && count < schedule.MaxMissed; count++ {
				following, _ = compiled.Next(following.Nominal)
			}
			if due.Missed != count {
				t.Fatalf("%d missed starts, want %d", due.Missed, count)
			}
			if later, ok := compiled.Next(due.Nominal); ok && !later.At.After(now) {
				t.Fatalf("%+v is due, but so is %+v", due, later)
			}
			last = due.Nominal
			if again, ok := compiled.Due(last, now); ok {
				t.Fatalf("%+v is due after %+v at the same moment", again, due)
			}
		}
	})
}

// pause generates a pause: until about the next start, a short one, or years.
func pause(t *rapid.T, s schedule.Schedule, last, now time.Time) time.Duration {
	length := time.Duration(rapid.Int64Range(0, int64(20*time.Minute)).Draw(t, "pause"))
	switch rapid.IntRange(0, 3).Draw(t, "to") {
	case 0:
		return length * time.Duration(rapid.IntRange(1, 250_000).Draw(t, "times"))
	case 1:
		return length
	}
	next, ok := s.Next(last)
	if !ok || next.At.Before(now) {
		return length
	}
	return next.At.Sub(now) + length/4
}

func judge(t *rapid.T, s experiments.Schedule, due schedule.Due, last, now time.Time) {
	if !due.Nominal.After(last) || due.At.After(now) {
		t.Fatalf("%+v is due at %s, after %s", due, now, last)
	}
	deadline := s.StartingDeadline.Duration
	if deadline == 0 {
		deadline = experiments.DefaultStartingDeadline
	}
	permitted := s.Permits(now) == nil
	if mustSkip := now.Sub(due.At) > deadline || !permitted; mustSkip != (due.Skip != nil) {
		t.Fatalf("at %s: %+v, want skipped %t", now, due, mustSkip)
	}
}

func TestDueSaysWhyNot(t *testing.T) {
	for _, test := range []struct {
		name, last, now string
		spec            experiments.Schedule
		missed          int
		want            string
	}{
		{"in time", "2026-11-23T10:00:00Z", "2026-11-24T10:00:00Z", of("UTC", "0 10 * * *", "", ""), 0, ""},
		{"at the end of its deadline", "2026-11-23T10:00:00Z", "2026-11-24T10:01:00Z", of("UTC", "0 10 * * *", "", ""), 0, ""},
		{"late", "2026-11-23T10:00:00Z", "2026-11-24T10:01:01Z", of("UTC", "0 10 * * *", "", ""), 0, "its startingDeadline, 1m, was over at 2026-11-24 10:01:00 UTC"},
		{"in its zone", "2026-11-23T10:00:00Z", "2026-11-24T10:01:00Z", of("Europe/Paris", "0 10 * * *", "", ""), 0, "its startingDeadline, 1m, was over at 2026-11-24 10:01:00 CET"},
		{"several", "2026-11-20T10:00:00Z", "2026-11-24T10:00:30Z", of("UTC", "0 10 * * *", "", ""), 3, ""},
		{"more than are counted", "2016-11-20T10:00:00Z", "2026-11-24T10:00:30Z", of("UTC", "* * * * *", "", ""), schedule.MaxMissed, ""},
		{"the window has closed", "2026-11-23T10:00:00Z", "2026-11-24T16:30:00Z", of("UTC", "29 16 * * *", "09:30-16:30", ""), 1, "Tue 16:30 UTC is outside the windows"},
		{"the date is excepted", "2026-11-23T10:00:00Z", "2026-11-24T00:00:00Z", of("UTC", "59 23 * * *", "", "2026-11-24"), 0, "2026-11-24 is excluded by 2026-11-24"},
	} {
		t.Run(test.name, func(t *testing.T) {
			last, err := time.Parse(time.RFC3339, test.last)
			must(err)
			now, err := time.Parse(time.RFC3339, test.now)
			must(err)
			due, ok := compile(t, "x", test.spec).Due(last, now)
			skip := ""
			if due.Skip != nil {
				skip = due.Skip.Error()
			}
			if !ok || skip != test.want || due.Missed != test.missed {
				t.Errorf("due %t, missed %d, skip %q; want missed %d, skip %q", ok, due.Missed, skip, test.missed, test.want)
			}
		})
	}
}

func TestNoStarts(t *testing.T) {
	suspended := of("UTC", "* * * * *", "", "")
	suspended.Suspend = true
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for name, s := range map[string]experiments.Schedule{
		"suspended":       suspended,
		"no such day":     of("UTC", "0 10 30 2 *", "", ""),
		"outside windows": of("UTC", "0 10 * * 2", "Mon 00:00-24:00", ""),
		"all excepted":    of("UTC", "* * * * *", "", "0001-01-01/9999-12-31"),
	} {
		t.Run(name, func(t *testing.T) {
			compiled := compile(t, "x", s)
			if next, ok := compiled.Next(now); ok {
				t.Errorf("starts at %s", next.Nominal)
			}
			if due, ok := compiled.Due(time.Time{}, now); ok {
				t.Errorf("%s is due", due.Nominal)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, s := range []experiments.Schedule{
		of("UTC", "", "", ""), of("UTC", "61 * * * *", "", ""), of("Europe/Pari", "* * * * *", "", ""), of("UTC", "@every 1m", "", ""),
	} {
		if _, err := schedule.New("shop", s); err == nil || !strings.HasPrefix(err.Error(), "schedule of shop: ") {
			t.Errorf("%q in %s: %v", s.Cron, s.TimeZone, err)
		}
	}
}

// Experiments that start at the same minute spread over the jitter.
func TestJitterSpreads(t *testing.T) {
	const names, parts = 2000, 10
	s := of("Europe/Paris", "0 10 * * *", "", "")
	s.Jitter = minutes(10)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	var counts [parts]int
	for i := range names {
		name := fmt.Sprintf("game-day-%d", i)
		start, _ := compile(t, name, s).Next(now)
		again, _ := compile(t, name, s).Next(now.Add(time.Hour))
		if !start.At.Equal(again.At) {
			t.Fatalf("%s starts at %s or at %s", name, start.At, again.At)
		}
		counts[start.At.Sub(start.Nominal)*parts/s.Jitter.Duration]++
	}
	for part, count := range counts {
		if count < names/parts*7/10 || count > names/parts*13/10 {
			t.Errorf("%d of %d starts in part %d of %d", count, names, part, parts)
		}
	}
}

// After a pause of ten years the answer is correct, and fast.
func BenchmarkDueAfterTenYears(b *testing.B) {
	for _, test := range []struct{ name, cron, windows, except string }{
		{"every minute", "* * * * *", "", ""},
		{"a minute a week", "* * * * *", "Mon 03:00-03:01", ""},
		{"once in four years", "0 10 29 2 *", "", ""},
		{"all excepted", "* * * * *", "", "2000-01-01/2099-12-31"},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := compile(b, "x", of("Europe/Paris", test.cron, test.windows, test.except))
			now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
			for b.Loop() {
				s.Due(now.AddDate(-10, 0, 0), now)
			}
		})
	}
}
