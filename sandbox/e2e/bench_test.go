package e2e_test

import (
	"syscall"
	"testing"
	"time"
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
