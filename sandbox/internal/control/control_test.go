package control

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// standard replaces the standard output of the process for a call.
func standard(t *testing.T, call func()) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = file
	call()
	os.Stdout = old
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestRun(t *testing.T) {
	// A path that is too long for the address of a socket.
	dir := layout.Dir(filepath.Join(t.TempDir(), strings.Repeat("long", 40)))
	if err := os.Mkdir(string(dir), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a sandbox: %v", err)
	}
	listener, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	entered := ""
	go Serve(listener, func(pod string) (Pod, error) {
		if pod == "shop/none" {
			return Pod{}, errors.New("no such pod")
		}
		entered = pod
		return Pod{Do: func(start func() error) error { return start() }, Env: []string{"POD=reviews"}}, nil
	})
	var code int
	out := standard(t, func() {
		code, err = Run(dir, Request{Place: "shop/reviews-v1", Args: []string{"sh", "-c", "pwd; echo $GREETING from $POD; exit 7"}, Env: []string{"GREETING=hello"}, Dir: "/usr"})
	})
	if err != nil || code != 7 || out != "/usr\nhello from reviews\n" || entered != "shop/reviews-v1" {
		t.Errorf("code %d, error %v, output %q in %s", code, err, out, entered)
	}
	if code, err := Run(dir, Request{Place: "shop/none", Args: []string{"true"}}); err == nil || err.Error() != "no such pod" || code == 0 {
		t.Errorf("unknown pod: code %d, error %v", code, err)
	}
	if _, err := Run(dir, Request{Place: Node, Args: []string{"no-such-program"}}); err == nil {
		t.Error("an unknown program has run")
	}
}

func TestRelay(t *testing.T) {
	listen := func() net.Listener {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		return listener
	}
	server, front := listen(), listen()
	go Relay(front, server.Addr().String())
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("squall"), 100_000)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d: %v", len(got), len(sent), err)
	}
}
