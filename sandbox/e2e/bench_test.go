package e2e_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// BenchmarkRun measures what a run costs beyond the time that its file asks
// for: 200 ms of baseline and 2 s of fault.
func BenchmarkRun(b *testing.B) {
	const asked = 2200 * time.Millisecond
	var wall, cpu time.Duration
	var peak int64
	for range b.N {
		s := spec{duration: "2s"}
		file := s.write(b)
		began := time.Now()
		run := start(b, "run", file)
		run.exits(0)
		wall = max(wall, time.Since(began)-asked)
		state := run.cmd.ProcessState
		cpu = max(cpu, state.UserTime()+state.SystemTime())
		if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
			peak = max(peak, usage.Maxrss)
		}
	}
	b.ReportMetric(wall.Seconds()*1000, "worst-extra-wall-ms")
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
