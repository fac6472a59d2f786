package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the outputs that the scripts compare")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"squall": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits CODE PROGRAM ARGS... runs a program that must end with the code.
			"exits": func(ts *testscript.TestScript, negated bool, args []string) {
				if negated || len(args) < 2 {
					ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec(args[1], args[2:]...)
				got := 0
				if failure, ok := errors.AsType[*exec.ExitError](err); ok {
					got = failure.ExitCode()
				} else if err != nil {
					ts.Fatalf("%v", err)
				}
				if got != want {
					ts.Fatalf("exit code %d instead of %d", got, want)
				}
			},
		},
	})
}

// Every signal that ends a run ends the reading of files too, with the code of an
// interruption.
func TestSignals(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT} {
		command := exec.CommandContext(t.Context(), "squall", "validate", "-")
		var stderr strings.Builder
		command.Stderr = &stderr
		input, err := command.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		// More than a pipe holds: when it is written, the program reads.
		if _, err := input.Write(bytes.Repeat([]byte("#"), 1<<18)); err != nil {
			t.Fatal(err)
		}
		if err := command.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = command.Wait()
		if code := command.ProcessState.ExitCode(); code != 4 || stderr.String() != "squall: interrupted\n" {
			t.Errorf("%s: exit code %d, %s", signal, code, &stderr)
		}
	}
}
