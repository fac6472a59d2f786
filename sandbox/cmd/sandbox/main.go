// Command sandbox runs a real Istio mesh on one machine, without containers:
// the demo and the test environment of Squall.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/sandbox/internal/httpshop"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/process"
	"github.com/squall-chaos/squall/sandbox/internal/shop"
)

func main() {
	// The kernel ties the children's lives to the thread that starts them.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := &cobra.Command{
		Use:           "sandbox",
		Short:         "A real Istio mesh on one machine",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(upCommand(), downCommand(), callCommand(), execCommand(), envoyCommand(), routesCommand(), nodeCommand(), probeCommand(), workloadCommand(), appCommand(), userCommand(), asRootCommand())
	err := root.ExecuteContext(ctx)
	stop()
	if code, ok := errors.AsType[exitError](err); ok {
		os.Exit(int(code))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sandbox: %v\n", err)
		os.Exit(1)
	}
}

// exitError is the exit code of a command that ran in the sandbox.
type exitError int

func (c exitError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func dirFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("dir", ".sandbox", "the sandbox's directory")
}

func openDir(name string) (layout.Dir, error) {
	absolute, err := filepath.Abs(name)
	return layout.Dir(absolute), err
}

func workloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "workload NAME",
		Short:  "Run one workload of the shop; up does it",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := shop.Find(args[0])
			if err != nil {
				return err
			}
			return w.Run(cmd.Context())
		},
	}
}

func appCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "app NAME",
		Short:  "Run one application of the shop in a pod; up does it",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE:   func(cmd *cobra.Command, args []string) error { return httpshop.Run(cmd.Context(), args[0]) },
	}
}

func userCommand() *cobra.Command {
	return &cobra.Command{
		Use:                process.UserCommand + " USER PROGRAM [ARGS]",
		Short:              "Run a program as a user; up does it",
		Args:               cobra.MinimumNArgs(2),
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return process.ExecAs(args[0], args[1], args[2:]) },
	}
}
