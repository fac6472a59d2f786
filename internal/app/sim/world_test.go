package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/kube/kubetest"
	"github.com/squall-chaos/squall/mesh/objects"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// world is a cluster with a mesh, and the processes of Squall that use it.
type world struct {
	*loop
	api         *kubetest.Server
	apiWeather  weather
	diskWeather weather
	streams     []*stream
	controllers *controllers
	istiod      *istiod
	proxies     []*proxy
	prometheus  *prometheus
	// startup is the longest time that the Job controller takes to start a Job.
	startup time.Duration
	// skew is the API server's clock minus the world's.
	skew time.Duration
	// trouble is true while things may fail. over is true when the simulation ends.
	trouble, over bool
	// sick is true while the hypothesis does not hold.
	sick bool

	defect defect
	// length is how long the trouble lasts.
	length   time.Duration
	running  map[string]bool // processes that have not ended
	runs     map[string]*run
	replicas map[string]*replica
	served   map[string]*servedRun // runs of replicas, by id
	// directory has the directories of the files of replicas.
	directory func() string
	life      context.Context //nolint:containedctx // of all processes
	seams     seams
	judge     judge
	trace     hash.Hash64
	line      []byte
}

const api = "networking.istio.io/v1"

// newWorld returns a world at rest. It must be called in a bubble.
func newWorld(seed uint64, planted defect) *world {
	w := &world{
		loop: newLoop(seed), runs: map[string]*run{}, running: map[string]bool{}, replicas: map[string]*replica{}, served: map[string]*servedRun{}, length: 50 * time.Second, seams: seams{}, trace: fnv.New64a(), defect: planted,
	}
	w.judge = judge{world: w, ours: map[kubetest.Key]*unstructured.Unstructured{}, wrong: map[string]time.Time{}, rivals: map[[2]kubetest.Key]time.Time{}, yields: map[string]bool{}, ended: map[string]*since{}, backAt: map[string]time.Duration{}, truths: map[string]*truth{}}
	w.api = kubetest.New(func() time.Time { return time.Now().Add(w.skew) })
	w.controllers = &controllers{world: w}
	w.istiod = &istiod{world: w, debounce: w.between(20*time.Millisecond, 200*time.Millisecond), slowest: w.skewed(50*time.Millisecond, time.Second)}
	w.prometheus = &prometheus{world: w, interval: w.between(time.Second, 3*time.Second), series: map[string]*series{}, cached: map[string][]steadystate.Sample{}}
	w.startup = w.skewed(50*time.Millisecond, 4*time.Second)
	w.populate()
	w.api.Changed = w.changed
	w.after = w.judge.event
	for _, p := range w.proxies {
		p.routes, p.counted = p.resolve(w.api.List("virtualservices")), time.Now()
		w.in(w.between(0, w.prometheus.interval), func() { w.prometheus.scrape(p) })
	}
	w.in(0, w.prometheus.scrapeHealth)
	return w
}

// The hosts and namespaces.
const (
	ratings = "ratings.prod.svc.cluster.local"
	details = "details.prod.svc.cluster.local"
)

var namespaces = []string{"shop", "cart", "prod", "istio-system"}

// bases are the VirtualServices of users that a world may begin with.
var bases = []string{
	"",
	`{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {namespace: prod, name: ratings}, spec: {hosts: [ratings.prod.svc.cluster.local], http: [{match: [{uri: {prefix: /v2}}], route: [{destination: {host: ratings.prod.svc.cluster.local, subset: v2}}]}, {route: [{destination: {host: ratings.prod.svc.cluster.local}, weight: 80}, {destination: {host: ratings.prod.svc.cluster.local, subset: v2}, weight: 20}]}]}}`,
	`{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {namespace: prod, name: ratings}, spec: {hosts: [ratings.prod.svc.cluster.local], http: [{match: [{headers: {end-user: {exact: test}}}], route: [{destination: {host: ratings.prod.svc.cluster.local, subset: v2}}]}, {route: [{destination: {host: ratings.prod.svc.cluster.local}}]}]}}`,
}

func (w *world) populate() {
	w.skew = -time.Hour // users have created these before
	if base := bases[w.IntN(len(bases))]; base != "" {
		w.api.Put("virtualservices", object(base))
	}
	w.skew = 0
	for _, p := range []struct{ namespace, app string }{{"shop", "reviews"}, {"cart", "cart"}} {
		w.proxies = append(w.proxies, &proxy{
			namespace: p.namespace, app: p.app, counters: map[string]*counter{}, calls: []calls{
				{host: ratings, classes: []class{{path: "/", rate: 20}, {path: "/v2/x", rate: 5}, {path: "/", headers: map[string]string{"end-user": "test"}, rate: 5}}},
				{host: details, classes: []class{{path: "/", rate: 10}}},
			},
		})
	}
}

var manifests = map[string]*unstructured.Unstructured{}

// object returns the object of a manifest.
func object(manifest string) *unstructured.Unstructured {
	if known := manifests[manifest]; known != nil {
		return known.DeepCopy()
	}
	encoded, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		panic(err)
	}
	decoded := &unstructured.Unstructured{}
	if err := decoded.UnmarshalJSON(encoded); err != nil {
		panic(err)
	}
	manifests[manifest] = decoded
	return decoded.DeepCopy()
}

// changed follows a write to the API server.
func (w *world) changed(change kubetest.Change) {
	w.note("%s %s", change.Type, change.Key)
	w.pumpAll()
	w.controllers.changed(change)
	switch change.Key.Resource {
	case "virtualservices", "serviceentries", "destinationrules":
		w.istiod.changed()
	}
	w.judge.changed(change)
}

// note adds something that happens to the trace.
func (w *world) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(w.trace, "%d %s\n", time.Now().UnixNano(), text)
	if *verbose {
		fmt.Printf("%s %s\n", time.Now().Format("04:05.000"), text)
	}
}

// noteCall adds a call to the trace.
func (w *world) noteCall(c *call, f fate) {
	w.line = append(w.line[:0], byte(f))
	w.line = binary.LittleEndian.AppendUint64(w.line, uint64(time.Now().UnixNano()))
	w.line = append(append(w.line, c.from.name...), c.key...)
	_, _ = w.trace.Write(w.line)
	if *everyCall {
		fmt.Printf("%s %s %s %s\n", time.Now().Format("04:05.000000000"), c.from.name, c.key, f)
	}
}

// forbid checks that a process writes only objects of Squall.
func (w *world) forbid(p *process, r kubetest.Request) {
	if r.Method == http.MethodGet || r.Query["dryRun"] != "" {
		return
	}
	parts := strings.Split(strings.Trim(r.Path, "/"), "/")
	i := slices.Index(parts, "namespaces")
	if i < 0 || len(parts) < i+3 || slices.Contains([]string{"leases", "events"}, parts[i+2]) {
		return
	}
	key := kubetest.Key{Resource: parts[i+2], Namespace: parts[i+1]}
	if len(parts) > i+3 {
		key.Name = parts[i+3]
	}
	if now := w.api.Get(key); now != nil && !objects.IsOurs(now) {
		w.judge.problem("I2: %s would %s %s, which is not Squall's", p.name, r.Method, key)
	}
}

// outage lets the API server be away for a while.
func (w *world) outage(d time.Duration, refuses bool) {
	w.note("API server is down")
	w.apiWeather.down, w.apiWeather.refuses = true, refuses
	w.judge.away(true)
	if refuses {
		for _, s := range w.streams {
			s.end(errReset)
		}
	}
	w.in(d, func() {
		w.note("API server is up")
		w.apiWeather.down = false
		w.judge.away(w.controllers.down)
		w.pumpAll()
	})
}

// simulate runs the world of a seed, and returns it when it has ended.
func simulate(t *testing.T, seed uint64, planted *defect) (w *world) {
	t.Helper()
	if planted == nil {
		planted = &defect{}
	}
	cryptotest.SetGlobalRandom(t, seed) // for the ids of runs
	synctest.Test(t, func(t *testing.T) {
		life, end := context.WithCancel(t.Context())
		defer end()
		w = newWorld(seed, *planted)
		w.life, w.directory = life, t.TempDir
		w.scenario()
		w.run(func() bool { return w.judge.problems != nil || w.idle() })
		if w.judge.problems == nil {
			quiet := false
			w.in(time.Minute, func() { quiet = true })
			w.run(func() bool { return quiet || w.judge.problems != nil })
			w.judge.end()
		}
		// Calls that still wait get no answer.
		w.over = true
		for _, r := range w.runs {
			r.dead = true
			r.stop(errDead)
		}
		for _, r := range w.replicas {
			r.dead = true
			r.stop(errDead)
		}
		end()
		giveUp := time.Now().Add(10 * time.Minute)
		w.after = nil
		w.run(func() bool { return len(w.running) == 0 || time.Now().After(giveUp) })
		for _, s := range w.streams {
			s.end(errReset)
		}
	})
	return w
}

// idle reports whether no trouble is left and all processes have ended.
func (w *world) idle() bool { return !w.trouble && len(w.running) == 0 }
