package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build builds the program as users have it, without the race detector and the
// test's own code.
func build(b *testing.B) string {
	b.Helper()
	program := filepath.Join(b.TempDir(), "squall")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return program
}

// BenchmarkValidate measures whole processes: one file, and a folder of 500.
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
			var worst time.Duration
			var peak int64
			for b.Loop() {
				command := exec.CommandContext(b.Context(), program, "validate", "--quiet", folder)
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
		})
	}
}
