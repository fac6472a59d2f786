package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/sandbox/internal/control"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

func execCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "exec NAMESPACE/POD -- COMMAND [ARGS]",
		Short:   "Run a command in the network of a pod, or of the node",
		Example: "  sandbox exec shop/reviews-v1 -- curl -s http://ratings.prod:9080/ratings/0\n  sandbox exec node -- ip link",
		Args:    cobra.MinimumNArgs(2),
	}
	name := dirFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		dir, err := openDir(*name)
		if err != nil {
			return err
		}
		return runIn(dir, args[0], args[1:])
	}
	return cmd
}

// runIn runs a command in a pod or in the node.
func runIn(dir layout.Dir, place string, args []string) error {
	working, err := os.Getwd()
	if err != nil {
		return err
	}
	code, err := control.Run(dir, control.Request{Place: place, Args: args, Env: os.Environ(), Dir: working})
	if err == nil && code != 0 {
		err = exitError(code)
	}
	return err
}

// runSelfIn runs this program with other arguments in a pod or in the node.
func runSelfIn(dir layout.Dir, place string, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return runIn(dir, place, append([]string{self}, args...))
}

// hasSidecars reports whether a sandbox with sidecars runs in a directory.
func hasSidecars(dir layout.Dir) (bool, error) {
	conn, err := control.Dial(dir)
	if errors.Is(err, control.ErrNotRunning) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, conn.Close()
}

// adminTimeout bounds an answer of Envoy's admin interface.
const adminTimeout = 10 * time.Second

func envoyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "envoy NAMESPACE/POD PATH",
		Short:   "Print what the admin interface of a pod's Envoy answers",
		Example: "  sandbox envoy shop/reviews-v1 /clusters\n  sandbox envoy shop/reviews-v1 '/config_dump?resource=dynamic_active_clusters'",
		Args:    cobra.ExactArgs(2),
	}
	name := dirFlag(cmd)
	method := cmd.Flags().StringP("request", "X", http.MethodGet, "GET or POST")
	inside := cmd.Flags().Bool("inside", false, "this process is in the pod")
	_ = cmd.Flags().MarkHidden("inside") // the flag exists
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := "/" + strings.TrimPrefix(args[1], "/")
		if !*inside {
			dir, err := openDir(*name)
			if err != nil {
				return err
			}
			return runSelfIn(dir, args[0], "envoy", "--inside", "-X", *method, args[0], path)
		}
		client := &http.Client{Timeout: adminTimeout}
		request, err := http.NewRequestWithContext(cmd.Context(), *method, "http://127.0.0.1:15000"+path, http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close() //nolint:errcheck // read to the end
		if _, err := io.Copy(os.Stdout, response.Body); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return errors.New("Envoy answers " + response.Status)
		}
		return nil
	}
	return cmd
}
