package sim

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/serve"
	"github.com/squall-chaos/squall/internal/app/serve/history"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/kube/lease"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
	"github.com/squall-chaos/squall/runner/removal"
)

// replica is a process of squall serve.
type replica struct {
	*process
	stop context.CancelCauseFunc
}

// servedRun is a run of a replica.
type servedRun struct {
	by, experiment string
	nominal        time.Time
	// out has the directory of the run.
	out string
}

// scheduled lets two replicas run experiments, every minute.
func (w *world) scheduled() {
	w.length = 150 * time.Second
	files, out := w.directory(), w.directory()
	for _, name := range []string{"x", "y"}[:1+w.IntN(2)] {
		text := w.drawExperiment(name) + "  schedule: {cron: \"* * * * *\"}\n"
		if err := os.WriteFile(filepath.Join(files, name+".yaml"), []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	for i := range 2 {
		name := fmt.Sprint("replica-", i)
		w.in(w.between(0, 5*time.Second), func() { w.startReplica(name, files, filepath.Join(out, name)) })
	}
	w.sometimes(0.5, func() {
		if name := w.replica(); name != "" {
			old := w.replicas[name]
			if w.chance(0.5) {
				old.kill()
			} else {
				w.note("SIGTERM to %s", name)
				old.stop(context.Canceled)
			}
			next := name + "'" // a pod has another name after a restart
			w.in(w.between(time.Second, 20*time.Second), func() { w.startReplica(next, files, filepath.Join(out, next)) })
		}
	})
}

// replica returns the name of a replica that lives; empty if there is none.
func (w *world) replica() string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(w.replicas)), func(name string) bool { return !w.running[name] || w.replicas[name].dead })
	if len(names) == 0 {
		return ""
	}
	return names[w.IntN(len(names))]
}

// startReplica starts a replica.
func (w *world) startReplica(name, files, out string) {
	if !w.trouble {
		return
	}
	r := &replica{process: w.newProcess(name)}
	ctx, stop := context.WithCancelCause(w.life)
	r.stop = stop
	w.replicas[name], w.running[name] = r, true
	w.note("%s starts", name)
	go func() {
		cluster := r.cluster()
		config := runner.Config{Cluster: client{Cluster: cluster, process: r.process}, Querier: querier{r.process}, Version: "sim", Timing: runner.DefaultTiming()}
		if w.defect.cluster != nil {
			config.Cluster = w.defect.cluster(config.Cluster)
		}
		lister := liveruns.Lister{Cluster: cluster}
		server := serve.New(serve.Config{
			Directory: files, Limits: scheduler.Limits{MaxConcurrent: 2, MaxPerNamespace: 2}, Runner: config,
			Store:   leadership.TextStore{Text: lease.Store{Cluster: cluster, Namespace: "istio-system", Name: "squall-starts"}, Name: "the Lease"},
			History: history.Config{Directory: out}, Identity: name, Cluster: others{lister: lister, cluster: cluster},
			Emit: func(context.Context, runs.Event) error { return nil }, Notify: func(notify.Event) {}, Metrics: noMetrics{}, Log: slog.New(startLog{r, out}),
		})
		election := &lease.Election{Cluster: cluster, Namespace: "istio-system", Name: "squall", Identity: name, Observed: server.Observe}
		var both sync.WaitGroup
		both.Go(func() { server.Watch(ctx) })
		both.Go(func() {
			election.Run(ctx, func(leading context.Context) {
				defer context.AfterFunc(leading, func() { r.tell("deposed", func() { w.judge.deposed(name) }) })()
				server.Lead(leading)
			})
		})
		both.Wait()
		r.tell("finished", func() {
			delete(w.running, name)
			w.judge.deposed(name)
		})
	}()
}

// tell lets the world do something, in the order of the loop.
func (p *process) tell(what string, do func()) {
	_, _ = p.world.enter(&call{key: what, from: p, ctx: context.WithoutCancel(p.world.life), arrive: func(c *call) {
		do()
		c.reply(nil)
	}})
}

// kill kills the process.
func (r *replica) kill() {
	if r.dead || !r.world.running[r.name] {
		return
	}
	r.world.note("kill -9 %s", r.name)
	r.dead = true
	r.world.judge.deposed(r.name)
	r.stop(errDead)
}

// deposed follows that a replica does not lead any more: its faults have to go.
func (j *judge) deposed(name string) {
	for id, one := range j.world.served {
		if one.by == name && j.ended[id] == nil {
			j.ended[id] = j.now()
		}
	}
}

// begins checks the begin of a fault of a replica.
func (j *judge) begins(id string) {
	one := j.world.served[id]
	if one == nil || one.nominal.IsZero() {
		return
	}
	for other, o := range j.world.served {
		if other != id && o.experiment == one.experiment && o.nominal.Equal(one.nominal) && j.world.truth(other).created > 0 {
			j.problem("S1: the start of %s at %s has injected in %s and in %s", one.experiment, one.nominal.Format(time.TimeOnly), other, id)
		}
	}
}

// recorded reports whether the journal of a run has an object that is about to be
// created.
func (w *world) recorded(id string, object *unstructured.Unstructured) bool {
	if run := w.runs[id]; run != nil {
		return run.recorded(object)
	}
	one := w.served[id]
	if one == nil {
		return false
	}
	text, err := os.ReadFile(filepath.Join(one.out, id, journal.FileName))
	return err == nil && strings.Contains(string(text), object.GetName())
}

// startLog follows which runs a replica starts.
type startLog struct {
	replica *replica
	out     string
}

func (startLog) Enabled(context.Context, slog.Level) bool { return true }

func (l startLog) Handle(_ context.Context, record slog.Record) error {
	if record.Message != "started by schedule" {
		return nil
	}
	id, one := "", &servedRun{by: l.replica.name, out: l.out}
	record.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "run":
			id = a.Value.String()
		case "experiment":
			one.experiment = a.Value.String()
		case "nominal":
			one.nominal = a.Value.Time()
		}
		return true
	})
	w := l.replica.world
	// The run is under way already, so the world may not wait for it.
	go l.replica.tell("starts "+one.experiment, func() {
		w.served[id] = one
		w.note("%s starts %s of %s", one.by, id, one.nominal.Format(time.TimeOnly))
	})
	return nil
}

func (l startLog) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l startLog) WithGroup(string) slog.Handler { return l }

// others are the runs of all processes, as squall serve sees them.
type others struct {
	lister  liveruns.Lister
	cluster *kube.Cluster
}

func (o others) ActiveRuns(ctx context.Context) ([]objects.ActiveRun, error) {
	seen, err := o.lister.List(ctx)
	return seen.Runs, err
}

func (o others) Remove(ctx context.Context, active []objects.ActiveRun, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := liveruns.Remover{Lister: o.lister, Objects: o.cluster, Owner: owner}.Remove(ctx, active, func(string, removal.Deletion) {})
	return err
}

// noMetrics counts nothing.
type noMetrics struct{}

func (noMetrics) Started(string, time.Duration)                {}
func (noMetrics) Finished(string, event.Result, time.Duration) {}
func (noMetrics) Skipped(string, scheduler.Reason)             {}
func (noMetrics) NextStart(string, time.Time, bool)            {}
func (noMetrics) Forget(string)                                {}
func (noMetrics) Live(int, int)                                {}
func (noMetrics) Swept(int, error)                             {}
func (noMetrics) Reloaded(time.Time, int, int)                 {}
func (noMetrics) Leading(bool)                                 {}
func (noMetrics) Paused(bool)                                  {}
