// Command squall runs chaos experiments on an Istio mesh.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/squall-chaos/squall/internal/app/cli"
)

// exitBug is the exit code after a panic. It is not a code of a run: 2, the code of the
// Go runtime, means that nothing was run.
const exitBug = 70

func main() { os.Exit(run()) }

// run runs the program and returns its exit code.
func run() (code int) {
	defer func() {
		if bug := recover(); bug != nil {
			fmt.Fprintf(os.Stderr, "squall: internal error: %v\n%s\nhint: the cluster removes a fault within 20 seconds; squall status lists the live faults\n", bug, debug.Stack())
			code = exitBug
		}
	}()
	// SIGQUIT too: a dump of the goroutines would leave the fault to the cluster.
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) { // ignored by nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	// SIGPIPE must not end the process before the rollback.
	signal.Ignore(syscall.SIGPIPE)
	defer stop()
	env := cli.Env{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
	received := make(chan os.Signal, 2)
	signal.Notify(received, signals...)
	go endAtSecond(received, env)
	return cli.Main(ctx, env)
}

// endAtSecond ends the process at the second signal, without waiting for the rollback.
func endAtSecond(received <-chan os.Signal, env cli.Env) {
	<-received
	<-received
	os.Exit(cli.Abandon(env))
}
