package session

import (
	"cmp"
	"os"
)

// Owner returns the user and the machine, which the objects of a run name.
func Owner(getenv func(string) string) string {
	user := cmp.Or(getenv("USER"), getenv("LOGNAME"), "unknown")
	host, err := os.Hostname()
	if err != nil {
		return user
	}
	return user + "@" + host
}
