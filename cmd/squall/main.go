// Command squall runs chaos experiments on an Istio mesh.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/squall-chaos/squall/internal/app/cli"
)

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // ignored by nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	// SIGPIPE must not end the process before the rollback.
	signal.Ignore(syscall.SIGPIPE)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(cli.Main(ctx, cli.Env{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}))
}
