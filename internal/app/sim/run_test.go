package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/removal"
)

// run is a process that carries out one experiment.
type run struct {
	*process
	id         string
	experiment experiments.Experiment
	journal    []event.Event
	result     event.Result
	ctx        context.Context //nolint:containedctx // of the process
	stop       context.CancelCauseFunc
}

var loaded = map[string]experiments.Experiment{}

// experiment returns the experiment of a file.
func experiment(text string) experiments.Experiment {
	if known, ok := loaded[text]; ok {
		return known
	}
	all, err := files.Load("sim.yaml", strings.NewReader(text))
	if err != nil {
		panic(err)
	}
	loaded[text] = all[0]
	return all[0]
}

// newProcess returns a process.
func (w *world) newProcess(name string) *process {
	return &process{name: name, world: w}
}

// start starts a run.
func (w *world) start(name string, e experiments.Experiment) {
	id := fmt.Sprintf("%s-%s-%06x", time.Now().UTC().Format(event.IDTime), e.Metadata.Name, len(w.runs))
	r := &run{process: w.newProcess(name), id: id, experiment: e}
	home := ""
	if w.chance(0.3) {
		home = namespaces[w.IntN(len(namespaces))]
	}
	r.ctx, r.stop = context.WithCancelCause(w.life)
	w.runs[id] = r
	w.running[name] = true
	w.note("%s starts %s", name, id)
	go func() {
		config := runner.Config{Cluster: client{Cluster: r.cluster(), process: r.process}, Querier: querier{r.process}, Version: "sim", Owner: name + "@sim", Timing: runner.DefaultTiming(), Options: mesh.Options{HomeNamespace: home}}
		if w.defect.cluster != nil {
			config.Cluster = w.defect.cluster(config.Cluster)
		}
		one, err := runner.New(config)
		if err != nil {
			panic(err)
		}
		now := time.Now()
		result := one.Run(r.ctx, objects.Run{ID: id, Experiment: e.Metadata.Name, Owner: config.Owner, Expires: now.Add(e.Spec.SteadyState.Before.Duration + e.Spec.Duration.Duration + config.Timing.Grace)}, e, r)
		_, _ = w.enter(&call{key: "finished", from: r.process, ctx: context.WithoutCancel(w.life), arrive: func(c *call) {
			delete(w.running, name)
			if !r.dead {
				r.result = result
				w.judge.ended[id] = w.judge.now()
				w.judge.finished(r)
			}
			c.reply(nil)
		}})
	}()
}

// Record implements event.Recorder: it is the way to the disk.
func (r *run) Record(_ time.Time, e event.Event) error {
	if r.world.defect.unrecorded != nil && r.world.defect.unrecorded(e) {
		return nil
	}
	c := &call{key: "record", from: r.process, ctx: r.world.life, arrive: func(c *call) {
		r.world.pass(c, "record", &r.world.diskWeather, func() any {
			r.journal = append(r.journal, e)
			if clean, is := e.(event.Clean); is {
				r.world.judge.clean(r, clean)
			}
			return nil
		}, func(fate) any { return fail{errNoSpace} })
	}}
	answer, err := r.world.enter(c)
	if failed, is := answer.(fail); is {
		return failed.err
	}
	return err
}

var errNoSpace = errors.New("write: no space left on device")

// recorded reports whether the journal has an object that is about to be created.
func (r *run) recorded(object *unstructured.Unstructured) bool {
	for _, e := range r.journal {
		if creating, is := e.(event.Creating); is {
			ref := objects.RefTo(creating.Object)
			if ref.Kind == object.GetKind() && ref.Namespace == object.GetNamespace() && strings.HasPrefix(object.GetName(), ref.Name) {
				return true
			}
		}
	}
	return false
}

// kill kills the process.
func (r *run) kill() {
	if r.dead || r.world.judge.ended[r.id] != nil {
		return
	}
	r.world.note("kill -9 %s", r.id)
	r.dead = true
	r.world.judge.ended[r.id] = r.world.judge.now()
	r.stop(errDead)
}

// rollBack is squall rollback --all.
func (w *world) rollBack(name string) {
	p := w.newProcess(name)
	w.running[name] = true
	w.note("%s rolls back", name)
	go func() {
		ctx, cancel := context.WithTimeout(w.life, 30*time.Second)
		defer cancel()
		cluster := p.cluster()
		lister := liveruns.Lister{Cluster: cluster}
		holding, stop := context.WithTimeout(w.life, 5*time.Second)
		unheld := error(nil)
		if !w.defect.noHold {
			_, unheld = liveruns.Holder{Lister: lister, Holds: cluster, Owner: name}.Hold(holding, 10*time.Minute)
		}
		stop()
		var chosen []objects.ActiveRun
		var left []objects.Left
		listing, err := lister.ListRetrying(ctx, func(error) {})
		if err == nil {
			chosen, err = listing.Choose(nil, false)
		}
		if err == nil {
			left, err = liveruns.Remover{Lister: lister, Objects: cluster, Owner: name}.Remove(ctx, chosen, func(string, removal.Deletion) {})
		}
		_, _ = w.enter(&call{key: "finished", from: p, ctx: context.WithoutCancel(w.life), arrive: func(c *call) {
			delete(w.running, name)
			w.note("%s has rolled back: %d runs, %d left, %v", name, len(chosen), len(left), err)
			if err == nil && len(left) == 0 && !w.over {
				w.judge.rolledBack(name, chosen)
				w.judge.held = w.judge.held || unheld == nil
			}
			c.reply(nil)
		}})
	}()
}

// rolledBack checks a rollback that has reported success.
func (j *judge) rolledBack(name string, chosen []objects.ActiveRun) {
	for _, run := range chosen {
		for key, object := range j.ours {
			if object.GetLabels()[objects.RunLabel] == run.ID && key.Resource == "virtualservices" {
				j.problem("%s reports that %s is gone, and there is %s", name, run.ID, key)
			}
		}
	}
}
