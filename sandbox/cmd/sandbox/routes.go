package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/sandbox/internal/control"
	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
)

func routesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "routes",
		Short:   "Print the routes that istiod sends to an Envoy, as JSON",
		Example: "  sandbox routes --as shop/reviews-v1 --host ratings.prod.svc.cluster.local",
		Args:    cobra.NoArgs,
	}
	name := dirFlag(cmd)
	as := cmd.Flags().String("as", "", "NAMESPACE/WORKLOAD of the proxy")
	labels := cmd.Flags().String("labels", "", "its labels, as k=v,k=v (default: app and version from its name)")
	host := cmd.Flags().String("host", "", "only the virtual hosts that serve this host")
	kind := cmd.Flags().String("kind", "sidecar", "sidecar or router")
	inside := cmd.Flags().Bool("inside", false, "this process is in the network of istiod")
	_ = cmd.Flags().MarkHidden("inside") // the flag exists
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *kind != "sidecar" && *kind != "router" {
			return fmt.Errorf("--kind %q is neither sidecar nor router", *kind)
		}
		w, err := identity.Parse(*as, *labels)
		if err != nil {
			return fmt.Errorf("--as or --labels: %w", err)
		}
		if !*inside {
			dir, err := openDir(*name)
			if err != nil {
				return err
			}
			sidecars, err := hasSidecars(dir)
			if err != nil {
				return err
			}
			if sidecars {
				return runSelfIn(dir, control.Node, "routes", "--inside", "--as", *as, "--labels", *labels, "--host", *host, "--kind", *kind)
			}
		}
		configs, err := routes.Fetch(cmd.Context(), w, *kind, *host)
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(configs)
		return err
	}
	return cmd
}
