package envoy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tlsClient is the first argument with which this program is the client of
// TestOpenTLSConnections, in a pod.
const tlsClient = "tls-client"

// keepFor is how long the client keeps its connection.
const keepFor = 70 * time.Second

// isClient runs a client if this process is one.
func isClient() bool {
	if len(os.Args) < 3 {
		return false
	}
	switch os.Args[1] {
	case tlsClient:
		seconds, err := keepTLS(os.Args[2], os.Args[3])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(seconds)
	case codeClient:
		printCodes(os.Args[2])
	default:
		return false
	}
	return true
}

// keepTLS opens a TLS connection, makes the file ready, exchanges a line each second, and
// returns after how many seconds it was closed; 0 if it was not within keepFor. It dials
// until it is connected, because the proxy may not know the host yet.
func keepTLS(address, ready string) (int, error) {
	name, _, _ := strings.Cut(address, ":")
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}} // the server's certificate is self-signed
	var conn net.Conn
	for end := time.Now().Add(time.Minute); conn == nil; {
		var err error
		conn, err = dialer.DialContext(context.Background(), "tcp", address)
		if err != nil && time.Now().After(end) {
			return 0, err
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
	defer conn.Close() //nolint:errcheck // the process ends
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		return 0, err
	}
	begun := time.Now()
	lines := bufio.NewReader(conn)
	for time.Since(begun) < keepFor {
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // an open connection has one
		_, err := fmt.Fprintln(conn, "x")
		if err == nil {
			_, err = lines.ReadString('\n')
		}
		if err != nil {
			return max(1, int(time.Since(begun).Seconds())), nil
		}
		time.Sleep(time.Second)
	}
	return 0, nil
}

// keptTLS keeps a TLS connection open from a pod, and returns when it is open.
func keptTLS(t *testing.T, pod, address string) <-chan int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(t.TempDir(), "ready")
	closed := make(chan int, 1)
	go func() {
		out, err := mesh.Exec(context.WithoutCancel(t.Context()), pod, self, tlsClient, address, ready)
		seconds, parseErr := strconv.Atoi(strings.TrimSpace(out))
		if err != nil || parseErr != nil {
			t.Errorf("%s keeps a connection: %v: %q", pod, err, out)
		}
		closed <- seconds
	}()
	eventually(t, func() error {
		_, err := os.Stat(ready)
		return err
	})
	return closed
}

// A blackhole of TLS refuses new connections of the callers. Envoy closes the open
// ones after the drain time, 45 s, and leaves the ones of other callers open.
func TestOpenTLSConnections(t *testing.T) {
	t.Parallel()
	const host = "vault.example.com"
	apply(t, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vault, namespace: shop}
spec:
  hosts: [vault.example.com]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]
  endpoints: [{address: payments.outside.svc.cluster.local}]
`)
	callers, others := keptTLS(t, other, host+":443"), keptTLS(t, productpage, host+":443")
	s := start(t, experiment{
		target: "{host: " + host + "}", callers: "[{namespace: shop, labels: {app: other}}]",
		faults: "[{blackhole: {mode: reject}}]", duration: "15s",
	})
	s.exits(0)
	if at := <-callers; at < 40 {
		t.Errorf("a connection of the callers is closed after %d s", at)
	} else {
		t.Logf("the connection of the callers is closed after %d s", at)
	}
	if at := <-others; at != 0 {
		t.Errorf("a connection of other callers is closed after %d s", at)
	}
}
