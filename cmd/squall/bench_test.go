package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build builds the program as it is released, without the race detector and test
// code.
func build(b *testing.B) string {
	b.Helper()
	program := filepath.Join(b.TempDir(), "squall")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return program
}

// BenchmarkValidate measures whole processes: one file, and a directory of 500.
func BenchmarkValidate(b *testing.B) {
	program := build(b)
	content, err := os.ReadFile("../../experiments/testdata/everything.yaml")
	if err != nil {
		b.Fatal(err)
	}
	for _, files := range []int{1, 500} {
		b.Run(fmt.Sprintf("files=%d", files), func(b *testing.B) {
			folder := b.TempDir()
			for i := range files {
				one := strings.Replace(string(content), "name: everything", fmt.Sprintf("name: everything-%d", i), 1)
				if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.yaml", i)), []byte(one), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			measure(b, program, "validate", "--quiet", folder)
		})
	}
}

// measure runs a program repeatedly, and reports the longest time and the largest
// memory.
func measure(b *testing.B, program string, args ...string) {
	b.Helper()
	var worst time.Duration
	var peak int64
	for b.Loop() {
		command := exec.CommandContext(b.Context(), program, args...)
		began := time.Now()
		if out, err := command.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		worst = max(worst, time.Since(began))
		if usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
			peak = max(peak, usage.Maxrss)
		}
	}
	b.ReportMetric(worst.Seconds()*1000, "worst-ms")
	b.ReportMetric(float64(peak)/1024, "peak-MB")
}

const (
	benchMesh       = 10_000 // VirtualServices, and as many Services
	benchNamespaces = 500
	benchPage       = 500
)

// BenchmarkPlan measures whole processes: squall plan with a mesh of 10,000
// VirtualServices and 10,000 Services in 500 namespaces. The API server is
// simulated, because a real one would take minutes to fill.
func BenchmarkPlan(b *testing.B) {
	program := build(b)
	server := httptest.NewServer(benchServer(b))
	defer server.Close()
	folder := b.TempDir()
	kubeconfig, experiment := filepath.Join(folder, "kubeconfig"), filepath.Join(folder, "experiment.yaml")
	for name, content := range map[string]string{
		kubeconfig: "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {}}], clusters: [{name: a, cluster: {server: " + server.URL + "}}]}",
		experiment: `apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: bench}
spec:
  target: {host: svc-7.ns-7}
  callers: [{namespace: ns-8, labels: {app: caller}}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 1m
  steadyState: {probes: []}
`,
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	measure(b, program, "plan", "--kubeconfig", kubeconfig, experiment)
}

// benchServer simulates an API server with a large mesh.
func benchServer(b *testing.B) http.Handler {
	b.Helper()
	virtualService := func(i int) string {
		host := fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local", i, i%benchNamespaces)
		return fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"svc-%d","namespace":"ns-%d","uid":"vs-%d","generation":3,"creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"svc-%d","argocd.argoproj.io/instance":"svc-%d"}},"spec":{"hosts":[%q],"http":[{"match":[{"headers":{"x-canary":{"exact":"true"}}}],"route":[{"destination":{"host":%q,"subset":"v2"}}],"timeout":"5s"},{"route":[{"destination":{"host":%q,"subset":"v1"},"weight":90},{"destination":{"host":%q,"subset":"v2"},"weight":10}],"retries":{"attempts":2,"perTryTimeout":"1s"}}]}}`,
			i, i%benchNamespaces, i, i, i, host, host, host, host)
	}
	service := func(i int) string {
		return fmt.Sprintf(`{"metadata":{"name":"svc-%d","namespace":"ns-%d","labels":{"app":"svc-%d"}},"spec":{"clusterIP":"10.0.0.1","selector":{"app":"svc-%d"},"ports":[{"name":"http","port":8080,"targetPort":8080,"protocol":"TCP"}]}}`, i, i%benchNamespaces, i, i)
	}
	namespace := func(i int) string {
		return fmt.Sprintf(`{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"ns-%d","labels":{"istio-injection":"enabled"}}}`, i)
	}
	list := func(items int, item func(int) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
			to, next := min(from+benchPage, items), ""
			if to < items {
				next = strconv.Itoa(to)
			}
			all := make([]string, 0, benchPage)
			for i := from; i < to; i++ {
				all = append(all, item(i))
			}
			answer(w, fmt.Sprintf(`{"apiVersion":"v1","kind":"List","metadata":{"continue":%q},"items":[%s]}`, next, strings.Join(all, ",")))
		}
	}
	mux := http.NewServeMux()
	const istio = "/apis/networking.istio.io"
	mux.HandleFunc(istio, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, `{"kind":"APIGroup","apiVersion":"v1","name":"networking.istio.io","versions":[{"version":"v1"}]}`)
	})
	mux.Handle(istio+"/v1/virtualservices", list(benchMesh, virtualService))
	mux.Handle(istio+"/v1/serviceentries", list(0, nil))
	mux.Handle(istio+"/v1/destinationrules", list(0, nil))
	mux.Handle(istio+"/v1/sidecars", list(0, nil))
	mux.Handle("/api/v1/services", list(benchMesh, service))
	mux.Handle("/api/v1/namespaces", list(benchNamespaces, namespace))
	mux.HandleFunc("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","status":{"allowed":true}}`)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		answer(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	})
	return mux
}

func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, body) // the client reports the error
}
