package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
)

// BenchmarkRun measures what a run costs beyond the time that its file asks
// for: 200 ms of baseline and 2 s of fault.
func BenchmarkRun(b *testing.B) {
	const asked = 2200 * time.Millisecond
	var wall []time.Duration
	var cpu time.Duration
	var peak int64
	for range b.N {
		s := spec{duration: "2s"}
		file := s.write(b)
		began := time.Now()
		run := start(b, "run", file)
		run.exits(0)
		wall = append(wall, time.Since(began)-asked)
		state := run.cmd.ProcessState
		cpu = max(cpu, state.UserTime()+state.SystemTime())
		if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
			peak = max(peak, usage.Maxrss)
		}
	}
	slices.Sort(wall)
	b.ReportMetric(float64(wall[len(wall)/2].Milliseconds()), "median-extra-wall-ms")
	b.ReportMetric(float64(wall[len(wall)-1].Milliseconds()), "worst-extra-wall-ms")
	b.ReportMetric(cpu.Seconds()*1000, "worst-cpu-ms")
	b.ReportMetric(float64(peak)/1024, "worst-peak-MB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDeviation measures the time from the moment at which Prometheus would
// show a deviation to the one at which the VirtualService is gone, beyond the
// interval: five runs for each of b.N.
func BenchmarkDeviation(b *testing.B) {
	const interval = 200 * time.Millisecond // as write has it
	var beyond []time.Duration
	for i := range b.N * 5 {
		// On this machine Prometheus' clock is ours. The moments are spread over
		// an interval.
		visible := time.Now().Add(2500*time.Millisecond + time.Duration(i%20)*interval/20).Truncate(time.Millisecond)
		file := spec{probes: fmt.Sprintf("[{name: soon too late, min: 1, phases: [before, during], query: 'vector(time()) < bool %.3f'}]", float64(visible.UnixMilli())/1000)}.write(b)
		watcher, err := mesh.Kube.Resource(virtualServices).Watch(b.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
		if err != nil {
			b.Fatal(err)
		}
		run := start(b, "run", file)
		for gone := false; !gone; {
			select {
			case event := <-watcher.ResultChan():
				gone = event.Type == watch.Deleted
			case <-run.done:
				b.Fatal("the run has ended, and no VirtualService was seen to go")
			}
		}
		beyond = append(beyond, time.Since(visible)-interval)
		watcher.Stop()
		run.exits(1)
	}
	slices.Sort(beyond)
	b.ReportMetric(float64(beyond[len(beyond)/2].Milliseconds()), "median-beyond-interval-ms")
	b.ReportMetric(float64(beyond[len(beyond)-1].Milliseconds()), "worst-beyond-interval-ms")
	b.ReportMetric(float64(len(beyond)), "runs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkServe measures one squall serve with 200 live runs, which a schedule has
// started at the same time. Each has a separate host and measures two probes every
// 5 s.
func BenchmarkServe(b *testing.B) {
	const runs = 200
	folder := furnish(b, runs)
	for range b.N {
		s := serve(b, folder, "--api-token-file", tokenFile(b), "--max-concurrent", "0", "--max-per-namespace", "0")
		watcher, err := mesh.Kube.Resource(virtualServices).Watch(b.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
		if err != nil {
			b.Fatal(err)
		}
		soon(b, 70*time.Second, func() error { return s.counts("squall_runs_live", runs) })
		began, used := time.Now(), s.cpu()
		s.post("/api/v1/pause", "") // nothing starts a second time
		soon(b, 70*time.Second, func() error { return s.counts("squall_faults_live", runs) })
		inForce := time.Since(began)
		soon(b, 2*time.Minute, func() error { return s.counts("squall_runs_live", 0) })
		cores := (s.cpu() - used) / time.Since(began).Seconds()
		held := strings.Count(s.get("/metrics"), `status="completed",verdict="held"} 1`)
		removed := removals(watcher)
		if held != runs || removed != runs {
			b.Errorf("%d runs have held, and %d faults are removed, of %d", held, removed, runs)
		}
		b.ReportMetric(s.peak(), "peak-MB")
		b.ReportMetric(cores, "cores")
		b.ReportMetric(inForce.Seconds(), "s-until-all-in-force")
		b.ReportMetric(float64(held), "held")
		b.ReportMetric(float64(removed), "removed")
		s.signal(syscall.SIGTERM)
		s.exits(0)
	}
	b.ReportMetric(0, "ns/op")
}

// furnish creates a namespace with Services, one with callers, and a directory with
// an experiment for each Service.
func furnish(b *testing.B, count int) (folder string) {
	b.Helper()
	namespace(b, "bench")
	namespace(b, "bench-callers")
	folder = b.TempDir()
	for i := range count {
		name := fmt.Sprintf("svc-%d", i)
		_, err := mesh.Kube.Resource(services).Namespace("bench").Create(b.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"ports": []any{map[string]any{"name": "grpc", "port": int64(9080)}}},
		}}, metav1.CreateOptions{})
		if err != nil {
			b.Fatal(err)
		}
		put(b, filepath.Join(folder, name+".yaml"), fmt.Sprintf(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: %s}
spec:
  target: {host: %[1]s, namespace: bench}
  callers: [{namespace: bench-callers}]
  faults: [{abort: {httpStatus: 503}, percentage: 100}]
  duration: 60s
  steadyState:
    interval: 5s
    before: 5s
    probes:
      - {name: always, query: vector(1), min: 1}
      - {name: targets are up, query: sum(up), min: 1}
  effect: {minRequests: 0}
  schedule: {cron: "* * * * *"}
`, name))
	}
	return folder
}

// counts returns an error unless a metric has a value.
func (s *server) counts(metric string, want float64) error {
	if got, _ := s.metric(metric); got != want {
		return fmt.Errorf("%s is %g, not %g", metric, got, want)
	}
	return nil
}

// soon tries for longer than eventually does.
func soon(t testing.TB, within time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // what is measured is not to be busy with answers
	}
}

// cpu returns how many seconds of a processor the process has used.
func (s *server) cpu() float64 {
	s.t.Helper()
	used, _ := s.metric("process_cpu_seconds_total")
	return used
}

// peak returns the most memory that the process has had, in MB.
func (s *server) peak() float64 {
	s.t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(content), "VmHWM:")
	kilobytes, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	size, err := strconv.ParseFloat(kilobytes, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return size / 1024
}

// removals counts the objects that a watch has seen to go, up to now.
func removals(watcher watch.Interface) (count int) {
	for {
		select {
		case event := <-watcher.ResultChan():
			if event.Type == watch.Deleted {
				count++
			}
		case <-time.After(time.Second):
			watcher.Stop()
			return count
		}
	}
}
