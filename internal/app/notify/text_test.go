package notify

import (
	"regexp"
	"strings"
	"testing"
)

// No text of others mentions a person or a channel, in any service.
func TestNoTextMentions(t *testing.T) {
	mention := regexp.MustCompile(`[@<][^\s\x{a0}]`)
	for _, text := range []string{
		"@here", "@Everyone", "@EVERYONE", "<@&ROLE>", "<@USER>", "<@!1234>", "<!channel>", "<#C024>", "<users/all>", "<at>all</at>", "@**all**", "@_**ann**",
		"@@here", "<<@here", "@\there", "a@b", "@", "<", "@<@all", "@\u00a0all", "@room",
	} {
		m := &message{Event: Event{Kind: Started, Title: text, Reason: text, Experiment: text, Host: text, Callers: []string{text}, Verdict: text, Status: text, Run: "run-1", ReportURL: "https://ann@example.com/x"}}
		for _, kind := range []Kind{Started, Stopped, Finished} {
			m.Kind = kind
			sent, _ := strings.CutSuffix(m.text(), "https://ann@example.com/x")
			if found := mention.FindString(sent); found != "" {
				t.Errorf("%q is sent as %q", text, sent)
			}
		}
		if title := m.headline(); mention.MatchString(unmentioned(title)) {
			t.Errorf("%q is in the title %q", text, title)
		}
	}
	if got := clean("the rate < 5 @ 10:00"); got != "the rate < 5 @ 10:00" {
		t.Errorf("%q", got)
	}
}
