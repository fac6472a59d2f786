package torture_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// journalIn finds the one journal in a directory of runs.
func journalIn(out string) (string, error) {
	journals, err := filepath.Glob(filepath.Join(out, "*", "journal.jsonl"))
	if err == nil && len(journals) != 1 {
		err = fmt.Errorf("journals in %s: %v", out, journals)
	}
	if err != nil {
		return "", err
	}
	return journals[0], nil
}

// linesIn counts the lines of the one journal in a directory of runs.
func linesIn(out string) (int, error) {
	journal, err := journalIn(out)
	if err != nil {
		return 0, err
	}
	content, err := os.ReadFile(journal)
	return bytes.Count(content, []byte("\n")), err
}

// onLine calls a function when the journal of a run that is about to start has this many
// lines. It watches the file with inotify.
func onLine(q *squall, line int, reached func()) error {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	// Non-blocking, so that closing it ends a read.
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, q.out(), unix.IN_CREATE); err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	go func() {
		<-q.done
		_ = events.Close() // ends the read
	}()
	go func() {
		buffer := make([]byte, unix.SizeofInotifyEvent+unix.NAME_MAX+1)
		for {
			if _, err := events.Read(buffer); err != nil {
				return // the run has ended
			}
			// The first event is for the run's directory, which may already contain lines.
			folders, _ := filepath.Glob(filepath.Join(q.out(), "*")) // the pattern is good
			for _, folder := range folders {
				_, _ = unix.InotifyAddWatch(fd, folder, unix.IN_CREATE|unix.IN_MODIFY) // the directory exists
			}
			if lines, err := linesIn(q.out()); err == nil && lines >= line {
				reached()
				return
			}
		}
	}()
	return nil
}
