package main

import (
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

func TestSubordinate(t *testing.T) {
	who := &user.User{Username: "jason", Uid: "1000"}
	for name, test := range map[string]struct {
		file         string
		first, count int
	}{
		"by name":      {"root:1:2\njason:100000:65536\n", 100000, 65536},
		"by id":        {"1000:200000:5000\n", 200000, 5000},
		"the largest":  {"jason:1:10\njason:300000:65536\njason:2:20\n", 300000, 65536},
		"another user": {"jasonx:100000:65536\n10000:1:1\n", 0, 0},
		"broken lines": {"jason\njason:x:y\n:::\n", 0, 0},
		"empty":        {"", 0, 0},
	} {
		if first, count := subordinate(strings.NewReader(test.file), who); first != test.first || count != test.count {
			t.Errorf("%s: %d, %d instead of %d, %d", name, first, count, test.first, test.count)
		}
	}
}

// The error for a missing requirement has the command that helps.
func TestMapping(t *testing.T) {
	who := &user.User{Username: "jason", Uid: "1000"}
	if _, err := mapping("no-such-program", "/dev/null", who, "1000"); err == nil || !strings.Contains(err.Error(), "no-such-program is missing; run: apt-get install uidmap, or use --proxyless") {
		t.Errorf("without the program: %v", err)
	}
	for _, file := range []string{"/dev/null", filepath.Join(t.TempDir(), "missing")} {
		if _, err := mapping("true", file, who, "1000"); err == nil || !strings.Contains(err.Error(), "fewer than 1338 ids of jason; run as root: usermod --add-subuids") {
			t.Errorf("without ids in %s: %v", file, err)
		}
	}
}
