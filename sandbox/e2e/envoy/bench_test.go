package envoy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/sandbox/internal/audit"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// codeClient is the first argument with which this program calls a URL all the
// time, in a pod, and prints when the code of the answer changes.
const codeClient = "code-client"

func printCodes(url string) {
	client := &http.Client{Timeout: 10 * time.Second}
	last := 0
	for {
		code := -1
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		if response, err := client.Do(request); err == nil {
			code = response.StatusCode
			_, _ = io.Copy(io.Discard, response.Body) // only the code counts
			_ = response.Body.Close()
		}
		if code != last {
			fmt.Println(time.Now().UnixNano(), code)
			last = code
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// change is the first answer with another code.
type change struct {
	at   time.Time
	code int
}

// codes calls an address from a pod until the end of the benchmark.
func codes(b *testing.B, pod, address string) <-chan change {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	cmd := exec.CommandContext(ctx, filepath.Join(mesh.Bin, "sandbox"), "exec", "--dir", mesh.Dir, pod, "--", self, codeClient, "http://"+address+"/")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	changes := make(chan change, 100)
	go func() {
		defer close(changes)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			at, code, _ := strings.Cut(lines.Text(), " ")
			nanoseconds, err := strconv.ParseInt(at, 10, 64)
			number, codeErr := strconv.Atoi(code)
			if err == nil && codeErr == nil {
				changes <- change{at: time.Unix(0, nanoseconds), code: number}
			}
		}
	}()
	b.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
	})
	return changes
}

// until returns when a code was answered first.
func until(b *testing.B, changes <-chan change, code int) time.Time {
	b.Helper()
	for {
		select {
		case c, ok := <-changes:
			if !ok {
				b.Fatal("the client has ended")
			}
			if c.code == code {
				return c.at
			}
		case <-time.After(time.Minute):
			b.Fatalf("no answer with %d", code)
		}
	}
}

// received returns when the API server got a write of a VirtualService.
func received(b *testing.B, verb, name string) time.Time {
	b.Helper()
	var at time.Time
	eventually(b, func() (err error) {
		at, err = audit.Received(layout.Dir(mesh.Dir).AuditLog(), verb, "virtualservices", name)
		return err
	})
	return at
}

// BenchmarkEffect measures the time from a write at the API server to the first
// answer of a real Envoy that shows it: of a run's VirtualService, and of the same
// object that is written without Squall. It takes turns, and prints the medians.
func BenchmarkEffect(b *testing.B) {
	address, target := service(b, "bench", "{app: details}")
	changes := codes(b, other, address)
	until(b, changes, http.StatusOK)
	var runEffect, runClean, bareEffect, bareClean []time.Duration
	for range b.N {
		s := start(b, experiment{target: target, callers: others})
		hit := until(b, changes, 555)
		object := squallsOwn(b, target)
		runEffect = append(runEffect, hit.Sub(received(b, "create", object.GetName())))
		s.ends()
		runClean = append(runClean, until(b, changes, http.StatusOK).Sub(received(b, "delete", object.GetName())))

		bare := bareCopy(object)
		resource := resourceOf(bare)
		if _, err := resource.Create(b.Context(), bare, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		hit = until(b, changes, 555)
		bareEffect = append(bareEffect, hit.Sub(received(b, "create", bare.GetName())))
		if err := resource.Delete(b.Context(), bare.GetName(), metav1.DeleteOptions{}); err != nil {
			b.Fatal(err)
		}
		bareClean = append(bareClean, until(b, changes, http.StatusOK).Sub(received(b, "delete", bare.GetName())))
	}
	report := func(what string, run, bare []time.Duration) {
		b.ReportMetric(median(run), what+"-ms")
		b.ReportMetric(median(bare), what+"-bare-ms")
		b.ReportMetric(median(run)/median(bare), what+"-ratio")
	}
	report("write-to-effect", runEffect, bareEffect)
	report("delete-to-clean", runClean, bareClean)
	b.ReportMetric(0, "ns/op")
}

// median returns the median in milliseconds.
func median(durations []time.Duration) float64 {
	slices.Sort(durations)
	return float64(durations[len(durations)/2].Microseconds()) / 1000
}

// squallsOwn returns the VirtualService of the run for a target.
func squallsOwn(b *testing.B, target string) *unstructured.Unstructured {
	b.Helper()
	list, err := resourceOf(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": map[string]any{"namespace": "shop"},
	}}).List(b.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
	if err != nil {
		b.Fatal(err)
	}
	for _, item := range list.Items {
		if strings.Contains(target, item.GetAnnotations()["squall.dev/host"]) {
			return &item
		}
	}
	b.Fatalf("no VirtualService of squall for %s", target)
	return nil
}

// bareCopy returns an object with the same fields that Squall does not own.
func bareCopy(object *unstructured.Unstructured) *unstructured.Unstructured {
	bare := &unstructured.Unstructured{Object: map[string]any{"spec": object.DeepCopy().Object["spec"]}}
	bare.SetAPIVersion(object.GetAPIVersion())
	bare.SetKind(object.GetKind())
	bare.SetNamespace(object.GetNamespace())
	bare.SetName("bare")
	return bare
}
