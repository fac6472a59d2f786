package lease_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/kube/kubetest"
	"github.com/squall-chaos/squall/kube/lease"
)

// leaseServer is an API server for Leases, in memory, so that it can be used in
// a synctest bubble.
type leaseServer struct {
	mu      sync.Mutex
	leases  map[string]*unstructured.Unstructured
	version int
}

const (
	leasesPath = "/apis/coordination.k8s.io/v1/namespaces/chaos/leases"
	leasePath  = leasesPath + "/squall"
)

func newLeaseServer() *leaseServer {
	return &leaseServer{leases: map[string]*unstructured.Unstructured{}}
}

// put stores a Lease unconditionally; an empty one is deleted.
func (s *leaseServer) put(path, lease string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lease == "" {
		delete(s.leases, path)
		return
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON([]byte(lease)); err != nil {
		panic(err)
	}
	s.store(path, object)
}

func (s *leaseServer) store(path string, object *unstructured.Unstructured) {
	s.version++
	object.SetResourceVersion(fmt.Sprint(s.version))
	s.leases[path] = object
}

func (s *leaseServer) get(path string) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases[path].DeepCopy()
}

func (s *leaseServer) holder() string {
	name, _, _ := unstructured.NestedString(s.get(leasePath).Object, "spec", "holderIdentity")
	return name
}

// answer answers as a real API server does.
func (s *leaseServer) answer(method, path string, body []byte) (code int, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := &unstructured.Unstructured{}
	if len(body) > 0 {
		if err := sent.UnmarshalJSON(body); err != nil {
			return http.StatusBadRequest, kubetest.Status(400, "BadRequest", err.Error())
		}
	}
	if method == http.MethodPost {
		path += "/" + sent.GetName()
	}
	stored := s.leases[path]
	switch {
	case method == http.MethodPost && stored != nil:
		return http.StatusConflict, kubetest.Status(409, "AlreadyExists", "exists")
	case method != http.MethodPost && stored == nil:
		return http.StatusNotFound, kubetest.Status(404, "NotFound", "not found")
	case method == http.MethodPut && sent.GetResourceVersion() != stored.GetResourceVersion():
		return http.StatusConflict, kubetest.Status(409, "Conflict", "the object has been modified")
	case method != http.MethodGet:
		s.store(path, sent)
	}
	encoded, err := s.leases[path].MarshalJSON()
	if err != nil {
		return http.StatusInternalServerError, kubetest.Status(500, "InternalError", err.Error())
	}
	return http.StatusOK, string(encoded)
}

// fate is how a request is delayed, refused or lost.
type fate struct {
	before, after time.Duration // on the way there, and back
	refused       int           // the code of an answer by a proxy
	lost          bool          // the answer is lost
	hangs         bool
	meanwhile     func() // before the request arrives
}

// line is one candidate's connection to the server.
type line struct {
	*leaseServer
	fate func(request string) fate
}

var errLost = errors.New("the answer was lost")

// RoundTrip implements http.RoundTripper.
func (l *line) RoundTrip(request *http.Request) (*http.Response, error) {
	var body []byte
	if request.Body != nil {
		var err error
		if body, err = io.ReadAll(request.Body); err != nil {
			return nil, err
		}
	}
	f := l.fate(request.Method)
	if f.meanwhile != nil {
		f.meanwhile()
	}
	if f.hangs {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	if !sleep.For(request.Context(), f.before) {
		return nil, request.Context().Err()
	}
	code, answer := f.refused, kubetest.Status(f.refused, "InternalError", "etcd is away")
	if code == 0 {
		code, answer = l.answer(request.Method, request.URL.Path, body)
	}
	if !sleep.For(request.Context(), f.after) {
		return nil, request.Context().Err()
	}
	if f.lost {
		return nil, errLost
	}
	header := http.Header{"Content-Type": {"application/json"}}
	return &http.Response{StatusCode: code, Header: header, Body: io.NopCloser(strings.NewReader(answer)), Request: request}, nil
}

func (s *leaseServer) connect(t *testing.T, fates func(request string) fate) *kube.Cluster {
	t.Helper()
	c, err := kube.Connect(&rest.Config{Host: "http://memory", Transport: &line{s, fates}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func untroubled(string) fate { return fate{} }

// term is a time during which a candidate led.
type term struct {
	who      string
	from, to time.Time
}

// candidate runs an election, and records its terms and observations.
type candidate struct {
	mu       sync.Mutex
	terms    []term
	observed []string
}

func (c *candidate) run(ctx context.Context, e lease.Election) {
	e.Observed = func(leader string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.observed = append(c.observed, leader)
	}
	e.Namespace, e.Name = "chaos", "squall"
	e.Run(ctx, func(ctx context.Context) {
		c.mu.Lock()
		c.terms = append(c.terms, term{who: e.Identity, from: time.Now()})
		c.mu.Unlock()
		<-ctx.Done()
		c.mu.Lock()
		c.terms[len(c.terms)-1].to = time.Now()
		c.mu.Unlock()
	})
}

// held is a Lease with a holder whose clock is years behind.
func held(by string) string {
	return `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"chaos","name":"squall","labels":{"app.kubernetes.io/managed-by":"squall","team":"chaos"}},"spec":{"holderIdentity":"` + by + `","leaseTransitions":3,"renewTime":"1999-01-01T00:00:00.000000Z","acquireTime":"1999-01-01T00:00:00.000000Z"}}`
}

// The start and the end of the first term of a candidate, with disturbed
// requests.
func TestElection(t *testing.T) {
	const never = -1
	type at = time.Duration
	failing := func(from at, f fate) func(at, string) fate {
		return func(now at, _ string) fate {
			if now >= from {
				return f
			}
			return fate{}
		}
	}
	for _, test := range []struct {
		name   string
		lease  string
		fate   func(now at, request string) fate
		events map[at]string // changes of the Lease; empty deletes it
		from   at
		// earliest and latest bound the end; the test itself ends after 60 s.
		earliest, latest at
		holder           string // afterwards
	}{
		{name: "absent", from: 0, earliest: 60 * time.Second, latest: 60 * time.Second},
		{name: "free", lease: held(""), from: 0, earliest: 60 * time.Second, latest: 60 * time.Second},
		{name: "held and never renewed", lease: held("other"), from: 12 * time.Second, earliest: 60 * time.Second, latest: 60 * time.Second},
		{name: "ours, from an answer that was lost", lease: held("us"), from: 0, earliest: 60 * time.Second, latest: 60 * time.Second},
		{
			name: "held and renewed", lease: held("other"), from: never, holder: "other",
			events: map[at]string{11 * time.Second: held("other"), 22 * time.Second: held("other"), 33 * time.Second: held("other"), 44 * time.Second: held("other"), 55 * time.Second: held("other")},
		},
		{
			name: "given back", lease: held("other"), from: 6 * time.Second, earliest: 60 * time.Second, latest: 60 * time.Second,
			events: map[at]string{5 * time.Second: held("")},
		},
		{
			name: "cannot be read for a while", lease: held(""), from: 20 * time.Second, earliest: 60 * time.Second, latest: 60 * time.Second,
			fate: func(now at, _ string) fate {
				if now < 20*time.Second {
					return fate{refused: 500}
				}
				return fate{}
			},
		},
		{
			name: "cannot be read for longer than it lasts", lease: held("other"), from: 36 * time.Second, earliest: 60 * time.Second, latest: 60 * time.Second,
			events: map[at]string{23 * time.Second: held("other")},
			fate: func(now at, _ string) fate { // it was renewed meanwhile
				if now > 2*time.Second && now < 23*time.Second {
					return fate{refused: 500}
				}
				return fate{}
			},
		},
		{
			name: "renewals are refused", from: 0, earliest: 14 * time.Second, latest: 18 * time.Second, holder: "us",
			fate: failing(10500*time.Millisecond, fate{refused: 500}),
		},
		{
			name: "renewals hang", from: 0, earliest: 14 * time.Second, latest: 18 * time.Second, holder: "us",
			fate: failing(10500*time.Millisecond, fate{hangs: true}),
		},
		{
			name: "renewals are slower than patience", from: 0, earliest: 14 * time.Second, latest: 18 * time.Second,
			fate: failing(10500*time.Millisecond, fate{before: 5 * time.Second}), holder: "us",
		},
		{
			name: "refused for a little less than the deadline", from: 0, earliest: 60 * time.Second, latest: 60 * time.Second,
			fate: func(now at, _ string) fate {
				if now > 10500*time.Millisecond && now < 15*time.Second {
					return fate{refused: 500}
				}
				return fate{}
			},
		},
		{
			name: "answers to renewals are lost", from: 0, earliest: 60 * time.Second, latest: 60 * time.Second,
			fate: func(now at, request string) fate {
				return fate{lost: request == http.MethodPut && (now/time.Second)%4 == 0}
			},
		},
		{
			name: "changed by an administrator", from: 0, earliest: 60 * time.Second, latest: 60 * time.Second,
			events: map[at]string{11 * time.Second: held("us"), 15 * time.Second: held("us")},
		},
		{
			name: "taken", from: 0, earliest: 11 * time.Second, latest: 12 * time.Second, holder: "other",
			events: map[at]string{11 * time.Second: held("other"), 20 * time.Second: held("other"), 30 * time.Second: held("other"), 40 * time.Second: held("other"), 50 * time.Second: held("other")},
		},
		{name: "deleted", from: 0, earliest: 11 * time.Second, latest: 12 * time.Second, events: map[at]string{11 * time.Second: ""}},
		{
			// Others may see the Lease from when it was made.
			name: "the claim is answered late, and then nothing", from: 3900 * time.Millisecond, earliest: 7 * time.Second, latest: 8 * time.Second, holder: "us",
			fate: func(now at, request string) fate {
				switch {
				case request == http.MethodPost:
					return fate{after: 3900 * time.Millisecond}
				case now > 0:
					return fate{hangs: true}
				}
				return fate{}
			},
		},
		{
			name: "the claim is answered later than patience", from: 6 * time.Second, earliest: 60 * time.Second, latest: 60 * time.Second,
			fate: func(_ at, request string) fate {
				if request == http.MethodPost {
					return fate{after: 9 * time.Second}
				}
				return fate{}
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				server := newLeaseServer()
				if test.lease != "" {
					server.put(leasePath, test.lease)
				}
				for when, lease := range test.events {
					time.AfterFunc(when, func() { server.put(leasePath, lease) })
				}
				fates := untroubled
				if test.fate != nil {
					fates = func(request string) fate { return test.fate(time.Since(began), request) }
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var c candidate
				c.run(ctx, lease.Election{Cluster: server.connect(t, fates), Identity: "us"})
				if test.from == never {
					if len(c.terms) > 0 {
						t.Errorf("it led: %v", c.terms)
					}
				} else if first := c.terms[0]; first.from.Sub(began) != test.from || first.to.Sub(began) < test.earliest || first.to.Sub(began) > test.latest {
					t.Errorf("it led from %s to %s", first.from.Sub(began), first.to.Sub(began))
				}
				if got := server.holder(); got != test.holder {
					t.Errorf("the Lease is held by %q", got)
				}
			})
		})
	}
}

// Two create the Lease, or update it, at the same moment: one leads, the other
// observes it.
func TestElectionRaces(t *testing.T) {
	for _, test := range []struct{ name, lease, request string }{
		{"create", "", http.MethodPost},
		{"update", held(""), http.MethodPut},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newLeaseServer()
				if test.lease != "" {
					server.put(leasePath, test.lease)
				}
				var once sync.Once
				c := candidate{}
				ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
				defer cancel()
				c.run(ctx, lease.Election{Identity: "us", Cluster: server.connect(t, func(request string) fate {
					return fate{meanwhile: func() {
						if request == test.request {
							once.Do(func() { server.put(leasePath, held("winner")) })
						}
					}}
				})})
				if len(c.terms) > 0 || server.holder() != "winner" {
					t.Errorf("terms %v, held by %q", c.terms, server.holder())
				}
				if diff := cmp.Diff([]string{"winner"}, c.observed); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// The fields of the Lease are those that Kubernetes and its tools expect, and
// fields of others are kept.
func TestLeaseInWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newLeaseServer()
		server.put(leasePath, held(""))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		renewed := make(chan *unstructured.Unstructured, 1)
		time.AfterFunc(2500*time.Millisecond, func() { renewed <- server.get(leasePath) })
		c := candidate{}
		c.run(ctx, lease.Election{Identity: "us", Cluster: server.connect(t, untroubled)})
		lease := (<-renewed).Object
		spec, metadata := lease["spec"].(map[string]any), lease["metadata"].(map[string]any)
		delete(metadata, "resourceVersion")
		want := map[string]any{
			"holderIdentity": "us", "leaseDurationSeconds": int64(12), "leaseTransitions": int64(4),
			"acquireTime": "2000-01-01T00:00:00.000000Z", "renewTime": "2000-01-01T00:00:02.000000Z",
		}
		if diff := cmp.Diff([]map[string]any{want, {"namespace": "chaos", "name": "squall", "labels": map[string]any{"app.kubernetes.io/managed-by": "squall", "team": "chaos"}}}, []map[string]any{spec, metadata}); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"us", ""}, c.observed); diff != "" {
			t.Error(diff)
		}
	})
}

// The Lease is released only after lead has returned.
func TestElectionEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		fate   fate
		takes  time.Duration
		holder string
	}{
		{"answered", fate{}, 5 * time.Second, ""},
		{"refused", fate{refused: 500}, 5 * time.Second, "us"},
		{"hanging", fate{hangs: true}, 7 * time.Second, "us"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newLeaseServer()
				ctx, cancel := context.WithCancel(t.Context())
				var ended time.Time
				e := lease.Election{Namespace: "chaos", Name: "squall", Identity: "us", Observed: func(string) {}}
				e.Cluster = server.connect(t, func(string) fate {
					if ctx.Err() != nil {
						return test.fate
					}
					return fate{}
				})
				time.AfterFunc(time.Second, func() { ended = time.Now(); cancel() })
				e.Run(ctx, func(ctx context.Context) {
					<-ctx.Done()
					time.Sleep(5 * time.Second) // a rollback
					if server.holder() != "us" {
						t.Error("the Lease is given back before lead has returned")
					}
				})
				if took := time.Since(ended); took != test.takes || server.holder() != test.holder {
					t.Errorf("it took %s, and the Lease is held by %q", took, server.holder())
				}
			})
		})
	}
}

// Regardless of failed, late and lost requests, there is never more than one
// leader, and there is one after the disturbances.
func TestNeverTwoLeaders(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		candidates := rapid.IntRange(2, 6).Draw(rt, "candidates")
		trouble := rapid.Float64Range(0, 1).Draw(rt, "trouble")
		var problem string
		synctest.Test(t, func(t *testing.T) { problem = campaign(t, seed, candidates, trouble) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

const (
	troubled   = 5 * time.Minute
	campaigned = troubled + time.Minute
)

// campaign lets candidates run for a while, and returns the violations.
func campaign(t *testing.T, seed uint64, candidates int, trouble float64) string {
	began := time.Now()
	server := newLeaseServer()
	all := make([]candidate, candidates)
	var running sync.WaitGroup
	var mu sync.Mutex
	for i := range all {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		fates := func(string) fate {
			mu.Lock()
			defer mu.Unlock()
			if time.Since(began) > troubled || random.Float64() > trouble {
				return fate{before: time.Duration(random.IntN(20)) * time.Millisecond}
			}
			slow := func() time.Duration { return time.Duration(random.Int64N(int64(6 * time.Second))) }
			switch random.IntN(5) {
			case 0:
				return fate{refused: 500, before: slow()}
			case 1:
				return fate{hangs: true}
			case 2:
				return fate{before: slow(), after: slow()}
			case 3:
				return fate{after: slow()}
			default:
				return fate{lost: true, before: slow()}
			}
		}
		c := server.connect(t, fates)
		running.Go(func() {
			// Some stop, and return as another process.
			for life := 0; time.Since(began) < campaigned; life++ {
				mu.Lock()
				lifetime := time.Duration(random.Int64N(int64(3 * time.Minute)))
				mu.Unlock()
				if time.Since(began)+lifetime > troubled {
					lifetime = campaigned - time.Since(began)
				}
				ctx, cancel := context.WithTimeout(t.Context(), lifetime)
				all[i].run(ctx, lease.Election{Cluster: c, Identity: fmt.Sprintf("%d-%d", i, life)})
				cancel()
			}
		})
	}
	running.Wait()
	var terms []term
	for i := range all {
		terms = append(terms, all[i].terms...)
	}
	for i, a := range terms {
		for _, b := range terms[:i] {
			if a.from.Before(b.to) && b.from.Before(a.to) {
				return fmt.Sprintf("%s led from %s to %s, and %s from %s to %s", a.who, a.from.Sub(began), a.to.Sub(began), b.who, b.from.Sub(began), b.to.Sub(began))
			}
		}
	}
	for _, a := range terms {
		if a.to.Sub(began) >= campaigned {
			return ""
		}
	}
	return "nobody leads at the end"
}

const notePath = leasesPath + "/squall-starts"

func appending(word string) func(string) (string, error) {
	return func(text string) (string, error) { return text + word, nil }
}

// A text survives concurrent changes, and the fields of others are kept.
func TestNote(t *testing.T) {
	for _, test := range []struct {
		name, stored, want, problem string
		fate                        func(attempt int, request string) fate
	}{
		{name: "absent", want: "new"},
		{name: "empty", stored: `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"chaos","name":"squall-starts","labels":{"app.kubernetes.io/managed-by":"squall"}}}`, want: "new"},
		{name: "there", stored: note("old "), want: "old new"},
		{name: "the server fails", stored: note("old "), want: "old ", problem: "etcd is away", fate: func(_ int, request string) fate {
			if request == http.MethodPut {
				return fate{refused: 500}
			}
			return fate{}
		}},
		{name: "it cannot be read", stored: note("old "), want: "old ", problem: "etcd is away", fate: func(int, string) fate { return fate{refused: 500} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newLeaseServer()
			if test.stored != "" {
				server.put(notePath, test.stored)
			}
			attempt := 0
			fates := func(request string) fate {
				attempt++
				if test.fate == nil {
					return fate{}
				}
				return test.fate(attempt, request)
			}
			err := lease.Store{Cluster: server.connect(t, fates), Namespace: "chaos", Name: "squall-starts"}.Change(t.Context(), appending("new"))
			if (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
				t.Errorf("error %v", err)
			}
			got, err := lease.Store{Cluster: server.connect(t, untroubled), Namespace: "chaos", Name: "squall-starts"}.Read(t.Context())
			if err != nil || got != test.want {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func note(text string) string {
	encoded, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"chaos","name":"squall-starts","labels":{"app.kubernetes.io/managed-by":"squall"},"annotations":{"squall.dev/state":` + string(encoded) + `,"team":"chaos"}},"spec":{"holderIdentity":"somebody"}}`
}

// If change returns an error, nothing is written.
func TestNoteThatIsNotChanged(t *testing.T) {
	server := newLeaseServer()
	server.put(notePath, note("broken"))
	n := lease.Store{Cluster: server.connect(t, untroubled), Namespace: "chaos", Name: "squall-starts"}
	before := server.get(notePath)
	mine := errors.New("no state")
	if err := n.Change(t.Context(), func(string) (string, error) { return "", mine }); !errors.Is(err, mine) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before.Object, server.get(notePath).Object); diff != "" {
		t.Error(diff)
	}
}

// Concurrent changes are all applied; a change that always conflicts returns an
// error.
func TestNoteConflicts(t *testing.T) {
	for _, test := range []struct {
		rivals int
		fails  bool
	}{{1, false}, {4, false}, {5, true}} {
		t.Run(fmt.Sprint(test.rivals), func(t *testing.T) {
			server := newLeaseServer()
			rival := lease.Store{Cluster: server.connect(t, untroubled), Namespace: "chaos", Name: "squall-starts"}
			left := test.rivals
			n := rival
			n.Cluster = server.connect(t, func(request string) fate {
				return fate{meanwhile: func() {
					if request != http.MethodGet && left > 0 {
						left--
						if err := rival.Change(t.Context(), appending("r")); err != nil {
							t.Error(err)
						}
					}
				}}
			})
			err := n.Change(t.Context(), appending("n"))
			want := strings.Repeat("r", test.rivals)
			if !test.fails {
				want += "n"
			}
			got, failure := rival.Read(t.Context())
			if (err != nil) != test.fails || failure != nil || got != want {
				t.Errorf("%q, %v, %v", got, err, failure)
			}
		})
	}
}

// A Lease of another owner is not touched, however old it is, and the error is
// reported once.
func TestALeaseOfOthersIsNotTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newLeaseServer()
		for path, lease := range map[string]string{leasePath: held(""), notePath: note("theirs")} {
			server.put(path, strings.Replace(lease, `"app.kubernetes.io/managed-by":"squall"`, `"app":"theirs"`, 1))
		}
		before := []map[string]any{server.get(leasePath).Object, server.get(notePath).Object}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var said []string
		c := candidate{}
		c.run(ctx, lease.Election{Cluster: server.connect(t, untroubled), Identity: "us", Failed: func(err error) { said = append(said, err.Error()) }})
		if len(c.terms) > 0 || len(said) != 1 || !strings.Contains(said[0], "Lease chaos/squall does not belong to Squall") {
			t.Errorf("terms %v, said %q", c.terms, said)
		}
		err := lease.Store{Cluster: server.connect(t, untroubled), Namespace: "chaos", Name: "squall-starts"}.Change(t.Context(), appending("ours"))
		if err == nil || !strings.Contains(err.Error(), "does not belong to Squall") {
			t.Errorf("error %v", err)
		}
		if diff := cmp.Diff(before, []map[string]any{server.get(leasePath).Object, server.get(notePath).Object}); diff != "" {
			t.Error(diff)
		}
	})
}

// Other annotations are kept.
func TestNoteKeepsOthersFields(t *testing.T) {
	server := newLeaseServer()
	server.put(notePath, note("old"))
	if err := (lease.Store{Cluster: server.connect(t, untroubled), Namespace: "chaos", Name: "squall-starts"}).Change(t.Context(), appending("er")); err != nil {
		t.Fatal(err)
	}
	got, err := server.get(notePath).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(note("older"), `"name":"squall-starts"`, `"name":"squall-starts","resourceVersion":"2"`, 1)
	if !kubetest.EqualJSON(t, []byte(want), got) {
		t.Errorf("%s", got)
	}
}
