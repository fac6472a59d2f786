package envoy_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"
)

// keepOpen opens a connection to the TCP service, exchanges a line each second,
// and prints after how many seconds it was closed; 0 if it was not within 70.
const keepOpen = `exec 3<>/dev/tcp/ledger.prod/7070 || exit 1
while [ $SECONDS -lt 70 ]; do
  echo x >&3 && read -t 30 -u 3 || { echo $SECONDS; exit; }
  sleep 1
done
echo 0`

// kept keeps a connection open from a pod.
func kept(t *testing.T, pod string) <-chan int {
	closed := make(chan int, 1)
	go func() {
		out, err := mesh.Exec(context.WithoutCancel(t.Context()), pod, "bash", "-c", keepOpen)
		seconds, parseErr := strconv.Atoi(strings.TrimSpace(out))
		if err != nil || parseErr != nil {
			t.Errorf("%s keeps a connection: %v: %q", pod, err, out)
		}
		closed <- seconds
	}()
	return closed
}

// A blackhole of TCP replaces the listener's filter chain. Envoy closes the
// connections of the old one after the drain time, 45 s: all of the callers, and
// none of the others.
func TestOpenConnections(t *testing.T) {
	t.Parallel()
	callers, others := kept(t, other), kept(t, productpage)
	s := start(t, experiment{
		target: "{host: ledger.prod.svc.cluster.local}", callers: "[{namespace: shop, labels: {app: other}}]",
		faults: "[{blackhole: {mode: reject}, percentage: 1}]", duration: "10s",
	})
	begun := time.Now()
	s.exits(0)
	t.Logf("the run has ended after %.0f s", time.Since(begun).Seconds())
	if at := <-callers; at < 40 {
		t.Errorf("a connection of the callers is closed after %d s", at)
	} else {
		t.Logf("the connection of the callers is closed after %d s", at)
	}
	if at := <-others; at != 0 {
		t.Errorf("a connection of other callers is closed after %d s", at)
	}
}
