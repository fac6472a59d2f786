package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/clipperhouse/displaywidth"
	"golang.org/x/term"
)

// Control sequences of ECMA-48, and the marks of a frame (synchronized output,
// private mode 2026).
const (
	eraseRight, eraseBelow = "\x1b[K", "\x1b[J"
	beginFrame, endFrame   = "\x1b[?2026h", "\x1b[?2026l"
	green, yellow, red     = "\x1b[32m", "\x1b[33m", "\x1b[31m"
	plain                  = "\x1b[m"
)

func cursorUp(rows int) string { return fmt.Sprintf("\x1b[%dA", rows) }

// widthOf returns the number of columns that a text takes. Colours take none.
func widthOf(text string) int { return displaywidth.Options{ControlSequences: true}.String(text) }

// truncate shortens a text to a number of columns. It keeps colours complete.
func truncate(text string, columns int) string {
	return displaywidth.Options{ControlSequences: true}.TruncateString(text, columns, "…")
}

// screen keeps lines below the text that scrolls by.
type screen struct {
	out   io.Writer
	size  func() (width, height int)
	drawn []string // the lines on the screen
}

// draw prints text above the lines and replaces the lines. It writes once and marks
// the frame, so that the terminal does not flicker.
func (s *screen) draw(above string, lines []string) {
	width, _ := s.size()
	var frame strings.Builder
	frame.WriteString(beginFrame)
	if up := s.height(width); up > 0 {
		frame.WriteString(cursorUp(up))
	}
	frame.WriteString("\r")
	for text := range strings.Lines(above) {
		frame.WriteString(strings.TrimSuffix(text, "\n") + eraseRight + "\n")
	}
	s.drawn = nil
	for _, line := range lines {
		line = truncate(line, width-1)
		s.drawn = append(s.drawn, line)
		frame.WriteString(line + eraseRight + "\n")
	}
	frame.WriteString(eraseBelow + endFrame)
	_, _ = io.WriteString(s.out, frame.String()) // the journal has all events
}

// height returns the number of rows that the lines take now: a terminal that has
// become narrower has wrapped them.
func (s *screen) height(width int) int {
	rows := 0
	for _, line := range s.drawn {
		rows += max(1, (widthOf(line)+width-1)/width)
	}
	return rows
}

// sizeOf returns a function that returns the size of the terminal, and nil if out is
// not a terminal or the environment turns the live view off.
func sizeOf(out io.Writer, getenv func(string) string) func() (width, height int) {
	file, is := out.(*os.File)
	if !is || getenv("CI") != "" || getenv("TERM") == "dumb" || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return func() (width, height int) {
		width, height, err := term.GetSize(int(file.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}
}
