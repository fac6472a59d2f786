package torture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/squall-chaos/squall/sandbox/internal/apiproxy"
)

// isolated runs a command in a separate mount namespace, which needs no privileges, and
// a script before and after it. If the script is killed, the command is killed too.
func isolated(cmd *exec.Cmd, script string) {
	cmd.Args = append([]string{"sh", "-c", script, "sh"}, cmd.Args...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
}

// canIsolate reports whether the kernel permits this.
func canIsolate(ctx context.Context, folder string) error {
	cmd := exec.CommandContext(ctx, "true")
	isolated(cmd, fmt.Sprintf(`mount -t tmpfs tmpfs %q`, folder))
	return cmd.Run()
}

// In TestJournalCannotBeWritten no journal can be written: the run is refused before it
// sends any request.
func TestJournalCannotBeWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	places := map[string]struct{ out, script string }{
		"a file in the way": {out: file},
		"below a file":      {out: filepath.Join(file, "runs")},
		"/proc":             {out: "/proc/squall"},
	}
	readOnly := t.TempDir()
	if err := canIsolate(t.Context(), readOnly); err != nil {
		t.Logf("not with a read-only file system: %v", err)
	} else {
		places["a read-only file system"] = struct{ out, script string }{readOnly, fmt.Sprintf(`mount -t tmpfs -o ro tmpfs %q && exec "$@"`, readOnly)}
	}
	var all []job
	for name, place := range places {
		all = append(all, job{name, func(ctx context.Context, s *slot) (err error) {
			q, err := newSquall(ctx, s, short)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, q.close()) }()
			err = q.run(ctx, func(q *squall) error {
				err := q.behind(apiproxy.Hooks{})
				q.cmd.Args = append(q.cmd.Args, "--out", place.out)
				if place.script != "" {
					isolated(q.cmd, place.script)
				}
				return err
			})
			if err = errors.Join(err, q.named()); err != nil {
				return err
			}
			if q.code() != 3 || len(q.api.Calls()) > 0 || !strings.Contains(q.stderr.String(), "hint: ") {
				return fmt.Errorf("exit code %d, %d calls: %s%s", q.code(), len(q.api.Calls()), &q.stdout, &q.stderr)
			}
			return nil
		}})
	}
	inParallel(t, all)
}

// The disk is full from some byte of the journal on. The file system allocates pages, so
// the journal's first line is made longer step by step.
func TestDiskFills(t *testing.T) {
	t.Parallel()
	if err := canIsolate(t.Context(), t.TempDir()); err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	const page = 4096
	step := 256
	if !*full {
		step = 1024
	}
	ways := newTable("run")
	var all []job
	for pages := 1; pages <= 6; pages++ {
		for padding := 0; padding < page; padding += step {
			all = append(all, job{fmt.Sprintf("disk full after %d bytes", pages*page-padding), func(ctx context.Context, s *slot) error {
				return fillDisk(ctx, s, pages*page, padding, ways)
			}})
		}
	}
	inParallel(t, all)
	t.Logf("\n%s", ways)
	for _, way := range []string{"refused", "failed"} {
		if !ways.has(way) {
			t.Errorf("no run was %s", way)
		}
	}
}

// fillDisk makes a run on a small disk.
func fillDisk(ctx context.Context, s *slot, size, padding int, ways *table) (err error) {
	k := short
	k.more = "effect: {minRequests: 0}\n  description: x" + strings.Repeat("x", padding)
	q, err := newSquall(ctx, s, k)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	// The disk goes with its namespace, so the journal is taken from it.
	copied := filepath.Join(q.folder, "journal")
	err = q.run(ctx, func(q *squall) error {
		err := q.behind(apiproxy.Hooks{})
		isolated(q.cmd, fmt.Sprintf(`mount -t tmpfs -o size=%d tmpfs %q || exit 100; "$@"; code=$?; cat %[2]q/*/journal.jsonl >%q; exit $code`, size, q.out(), copied))
		return err
	})
	if err = errors.Join(err, q.named(), bed.clean(ctx, s, deadline)); err != nil {
		return err
	}
	created := 0
	for _, call := range q.api.Calls() {
		if call.Class == apiproxy.Write && strings.HasPrefix(call.Name, "create ") {
			created++
		}
	}
	recorded, err := countEvents(copied, "creating")
	if err != nil {
		return err
	}
	way := wayOf(q)
	ways.add(way, "", false, false, q.ended.Sub(q.began))
	said := q.stdout.String() + q.stderr.String()
	switch {
	case created > recorded:
		err = fmt.Errorf("%d objects were created, %d of them on record", created, recorded)
	case q.code() == 0 && way == "completed":
		_, err = statusOf(copied) // it is complete
	case q.code() != 3 || !strings.Contains(said, "no space left on device"):
		err = fmt.Errorf("exit code %d", q.code())
	case way == "refused" && created > 0:
		err = fmt.Errorf("refused with %d objects created", created)
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// wayOf returns the status that a run's summary names.
func wayOf(q *squall) string {
	for _, way := range []string{"refused", "failed", "stopped", "interrupted"} {
		if first, _, _ := strings.Cut(q.stdout.String(), "\n"); strings.Contains(first, "("+way+")") {
			return way
		}
	}
	return "completed"
}

// countEvents counts the whole lines of a journal that have a type.
func countEvents(journal, eventType string) (int, error) {
	content, err := os.ReadFile(journal)
	count := 0
	for line := range strings.Lines(string(content)) {
		var event struct{ Type string }
		if json.Unmarshal([]byte(line), &event) == nil && event.Type == eventType {
			count++
		}
	}
	return count, err
}
