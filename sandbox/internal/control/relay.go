package control

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds a connection inside of the sandbox.
const dialTimeout = 5 * time.Second

// Relay connects each connection that a listener accepts to an address, which
// may be in another network namespace than the listener. It ends when the
// listener is closed.
func Relay(listener net.Listener, address string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go relay(conn, address)
	}
}

func relay(client net.Conn, address string) {
	defer client.Close()                                                  //nolint:errcheck // both ends are done
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout) //nolint:forbidigo // a relay lives as long as its listener
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	cancel()
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // as above
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // the other end sees the end
			if half, ok := pair[0].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite() // closed already
			}
		})
	}
	both.Wait()
}
