package notify

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// maxLine limits the length of a reason or a title; the report has it all.
const maxLine = 500

// headline returns the first line of a message.
func (m *message) headline() string {
	switch m.Kind {
	case Started:
		return fmt.Sprintf("squall: %s started: it disturbs %s", m.Experiment, m.calls())
	case Stopped:
		return fmt.Sprintf("squall: %s stops early: it disturbed %s", m.Experiment, m.calls())
	case Finished:
		if m.From.IsZero() {
			return fmt.Sprintf("squall: %s finished, %s: no fault was injected in %s", m.Experiment, m.outcome(), m.calls())
		}
		return fmt.Sprintf("squall: %s finished, %s: it disturbed %s %s", m.Experiment, m.outcome(), m.calls(), m.window())
	default:
		return fmt.Sprintf("squall: %s %s: %s", m.Experiment, m.Kind, m.calls())
	}
}

func (m *message) calls() string {
	if len(m.Callers) == 0 {
		return "calls to " + m.Host
	}
	return fmt.Sprintf("calls from %s to %s", strings.Join(m.Callers, ", "), m.Host)
}

// outcome returns the verdict, and the status if the run did not complete.
func (m *message) outcome() string {
	switch {
	case m.Verdict == "":
		return m.Status
	case m.Status == "" || m.Status == "completed":
		return m.Verdict
	}
	return fmt.Sprintf("%s (%s)", m.Verdict, m.Status)
}

func (m *message) window() string {
	from, to := m.From.UTC(), m.To.UTC()
	if from.Format(time.DateOnly) != to.Format(time.DateOnly) {
		return fmt.Sprintf("from %s to %s UTC", from.Format(time.DateTime), to.Format(time.DateTime))
	}
	return fmt.Sprintf("from %s to %s UTC", from.Format(time.DateTime), to.Format(time.TimeOnly))
}

// text returns the message: the event, the reason, the command that ends the run, and
// the link to the report.
func (m *message) text() string {
	lines := []string{unmentioned(m.headline())}
	add := func(label, text string) {
		if text != "" {
			lines = append(lines, label+": "+text)
		}
	}
	if m.Kind == Started {
		add("expected", clean(m.Title))
	}
	add("reason", clean(m.Reason))
	switch {
	case m.Kind == Started:
		add("to stop it", "squall rollback "+m.Run)
	case m.Kind == Stopped, m.Status == "failed":
		add("if anything is left", "squall rollback "+m.Run)
	}
	add("report", m.ReportURL)
	return strings.Join(lines, "\n")
}

// unmentioned returns text that mentions neither a person nor a channel, which an
// error message must not do. In all services a mention begins with @ or <, and has no
// space after it.
func unmentioned(text string) string {
	var plain strings.Builder
	last := ' '
	for _, r := range text {
		if (last == '@' || last == '<') && !unicode.IsSpace(r) {
			plain.WriteByte(' ')
		}
		plain.WriteRune(r)
		last = r
	}
	return plain.String()
}

// clean makes one line of text from a file or a server.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	line := []rune(unmentioned(strings.Join(strings.Fields(text), " ")))
	if len(line) > maxLine {
		return string(line[:maxLine]) + "..."
	}
	return string(line)
}
