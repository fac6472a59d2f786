package terminal

import (
	"bytes"
	"time"
)

// live shows a run on a terminal: events scroll by above a panel with the state of
// the run.
type live struct {
	text   *lines
	above  *bytes.Buffer // the output of text since the last frame
	panel  panel
	screen screen
}

// frameTime is the time between frames if there are no events.
const frameTime = 250 * time.Millisecond

func newLive(text *lines, size func() (width, height int), colour bool) *live {
	above := &bytes.Buffer{}
	l := &live{text: text, above: above, panel: panel{colour: colour}, screen: screen{out: text.out, size: size}}
	text.out, text.summary = above, true
	return l
}

func (l *live) every() time.Duration { return frameTime }

func (l *live) paint(h happening) {
	l.text.paint(h)
	l.panel.add(h)
	l.refresh(time.Now())
}

func (l *live) refresh(now time.Time) {
	width, height := l.screen.size()
	l.screen.draw(l.above.String(), l.panel.view(now, width, height))
	l.above.Reset()
}

// finish removes the panel. The summary has the rest.
func (l *live) finish() { l.screen.draw(l.above.String(), nil) }
