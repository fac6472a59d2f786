package terminal

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A stalled reader of the log delays nothing, and lines are written in order.
func TestStalledReaderOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader, writer := io.Pipe()
		log, flush := NewLog(writer, Text, false)
		began := time.Now()
		for range 2 * maxQueue {
			log.Info("a line")
		}
		flush()
		log.Info("after the end") // which a notification that fails late may write
		if took := time.Since(began); took != flushTimeout {
			t.Errorf("it took %s", took)
		}
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
	})
	var out strings.Builder
	log, flush := NewLog(&out, JSON, true)
	log.Debug("first")
	log.Info("second", "run", "a")
	flush()
	if lines := strings.Split(out.String(), "\n"); len(lines) != 3 || !strings.Contains(lines[0], `"msg":"first"`) || !strings.Contains(lines[1], `"run":"a"`) {
		t.Errorf("%q", out.String())
	}
}
