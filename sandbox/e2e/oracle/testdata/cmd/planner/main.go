// Command planner prints what package mesh plans: for each experiment on its
// standard input the plan, with its objects as a run would create them. It is
// built in Squall's own module, so that the sandbox need not share Squall's
// dependencies, nor Squall those of a control plane.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/cluster"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "planner:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig string) error {
	all, err := experiments.Load("stdin", os.Stdin)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	connected, err := cluster.Connect(config)
	if err != nil {
		return err
	}
	snapshot, err := connected.Snapshot(ctx)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, e := range all {
		plan := mesh.Decide(snapshot, e, mesh.Options{})
		for i, object := range plan.Objects {
			plan.Objects[i] = mesh.Stamp(object, mesh.Run{ID: "oracle", Experiment: e.Metadata.Name, Owner: "oracle", Expires: time.Now().Add(time.Hour)})
		}
		if err := out.Encode(plan); err != nil {
			return err
		}
	}
	return nil
}
