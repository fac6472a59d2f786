package kube

import "os"

// NoticeDeadConnections makes client-go close a dead connection to the API server
// within seconds, so that a rollback does not wait for it. Client-go has no other
// setting for that than these variables.
func NoticeDeadConnections(getenv func(string) string) {
	for name, seconds := range map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "3", "HTTP2_PING_TIMEOUT_SECONDS": "2"} {
		if getenv(name) == "" {
			_ = os.Setenv(name, seconds) // fails for invalid names only
		}
	}
}
