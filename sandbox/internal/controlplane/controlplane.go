// Package controlplane starts a real mesh on one machine: etcd,
// kube-apiserver, kube-controller-manager, istiod, Prometheus and the shop, each
// in a separate process.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"istio.io/istio/manifests"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/kube"
	"github.com/squall-chaos/squall/sandbox/internal/kubelet"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/network"
	"github.com/squall-chaos/squall/sandbox/internal/poll"
	"github.com/squall-chaos/squall/sandbox/internal/process"
	"github.com/squall-chaos/squall/sandbox/internal/shop"
)

// readyTimeout is how long a part may take to answer.
const readyTimeout = 2 * time.Minute

// controllers are what a heartbeat needs, and what namespaces need to work.
const controllers = "job-controller,ttl-after-finished-controller,garbage-collector-controller,namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller"

// crdFile holds Istio's CRDs.
const crdFile = "charts/base/files/crd-all.gen.yaml"

// Options say what a sandbox has.
type Options struct {
	Dir layout.Dir
	// Shop says that the shop runs.
	Shop bool
	// Sidecars is nil for a sandbox whose workloads have none.
	Sidecars *Sidecars
	// Log takes the progress.
	Log io.Writer
}

// Mesh is a running sandbox.
type Mesh struct {
	Options

	parts   *parts
	kube    *kube.Client
	dead    net.Listener
	node    *network.Node
	kubelet *kubelet.Kubelet
}

// New prepares a sandbox. The programs are in the directory of the running one.
func New(options Options) (*Mesh, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("path of the program: %w", err)
	}
	group := process.NewGroup(options.Dir, options.Sidecars == nil)
	return &Mesh{Options: options, parts: &parts{Options: options, bin: filepath.Dir(self), group: group}}, nil
}

// Start starts everything and returns when all of it answers.
func (m *Mesh) Start(ctx context.Context) error {
	steps := m.proxylessSteps()
	if m.Sidecars != nil {
		steps = m.sidecarSteps()
	}
	for _, step := range steps {
		start := time.Now()
		if err := m.orDeath(ctx, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(m.Log, "sandbox: %s (%.1fs)\n", step.name, time.Since(start).Seconds())
	}
	return nil
}

// step is a part of the start.
type step struct {
	name string
	do   func(context.Context) error
}

func (m *Mesh) proxylessSteps() []step {
	return []step{
		{name: "addresses", do: m.checkFree},
		{name: "files", do: m.writeFiles},
		{name: "blackhole", do: m.startBlackhole},
		{name: "etcd", do: m.parts.startEtcd},
		{name: "kube-apiserver", do: m.parts.startAPIServer},
		{name: "Istio's CRDs", do: m.applyCRDs},
		{name: "kube-controller-manager, istiod, Prometheus", do: m.startControllers},
		{name: "the shop", do: m.startShop},
		{name: "heartbeats", do: m.proveHeartbeat},
	}
}

// checkFree returns an error if another program listens where the sandbox will.
func (m *Mesh) checkFree(context.Context) error {
	listeners := layout.ControlPlane()
	if m.Shop {
		listeners = append(listeners, shop.Listeners()...)
	}
	return layout.CheckFree(listeners)
}

// writeFiles writes the files of the parts.
func (m *Mesh) writeFiles(context.Context) error {
	admin, err := files{Options: m.Options}.writeAll()
	m.parts.admin = admin
	return err
}

// orDeath does one step, which fails as soon as a child has ended.
func (m *Mesh) orDeath(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	watching := make(chan struct{})
	defer func() { end(nil); <-watching }()
	go func() {
		defer close(watching)
		select {
		case death := <-m.parts.group.Died():
			end(death)
		case <-ctx.Done():
		}
	}()
	err := step(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return errors.Join(cause, err)
	}
	return err
}

// Died returns a channel with the first part that has ended by itself.
func (m *Mesh) Died() <-chan error { return m.parts.group.Died() }

// Stop stops everything that was started, in reverse order.
func (m *Mesh) Stop() error {
	errs := []error{m.parts.group.Stop()}
	if m.dead != nil {
		errs = append(errs, m.dead.Close())
	}
	return errors.Join(errs...)
}

// startBlackhole listens where connections are accepted and nothing is ever
// answered.
func (m *Mesh) startBlackhole(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", layout.Blackhole)
	if err != nil {
		return err
	}
	m.dead = listener
	go func() {
		var held []net.Conn
		for {
			conn, err := listener.Accept()
			if err != nil {
				for _, c := range held {
					_ = c.Close() // the caller has gone
				}
				return
			}
			held = append(held, conn)
		}
	}()
	return nil
}

func (m *Mesh) applyCRDs(ctx context.Context) error {
	client, err := kube.New(m.parts.admin)
	if err != nil {
		return err
	}
	m.kube = client
	crds, err := manifests.FS.ReadFile(crdFile)
	if err != nil {
		return err
	}
	if err := client.Apply(ctx, crds); err != nil {
		return err
	}
	return poll.Until(ctx, func() error { return client.Established(ctx) })
}

// startControllers starts what needs the CRDs to be there: the garbage
// collector looks for new kinds only every 30 s.
func (m *Mesh) startControllers(ctx context.Context) error {
	if err := m.kube.Apply(ctx, []byte("{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}")); err != nil {
		return err
	}
	if err := errors.Join(m.parts.startControllerManager(), m.parts.startIstiod(), m.parts.startPrometheus()); err != nil {
		return err
	}
	return errors.Join(
		m.parts.answers(ctx, "https://"+layout.ControllerManager+"/healthz", nil),
		m.parts.answers(ctx, "http://"+layout.IstiodHTTP+"/ready", nil),
		m.parts.answers(ctx, "http://"+layout.Prometheus+"/-/ready", nil),
	)
}

// startShop applies the shop's objects, starts its workloads, and waits until
// the page has stars and its load is steady in Prometheus.
func (m *Mesh) startShop(ctx context.Context) error {
	if !m.Shop {
		return nil
	}
	if err := m.kube.Apply(ctx, shop.Manifests); err != nil {
		return err
	}
	for _, w := range shop.Workloads() {
		bootstrap, err := w.Bootstrap()
		if err != nil {
			return err
		}
		err = m.parts.run(process.Program{
			Name: w.Name, Path: filepath.Join(m.parts.bin, "sandbox"), Args: []string{"workload", w.Name},
			Env: []string{identity.BootstrapVariable + "=" + bootstrap},
		})
		if err != nil {
			return err
		}
	}
	err := poll.Until(ctx, func() error {
		body, err := get(ctx, "http://"+layout.ProductPage+"/productpage", nil)
		if err == nil && !strings.Contains(body, "stars") {
			err = errors.New("the page has no stars")
		}
		return err
	})
	if err != nil {
		return err
	}
	return m.steadyLoad(ctx)
}

// steadyLoad waits until the load of the shop is steady in Prometheus.
func (m *Mesh) steadyLoad(ctx context.Context) error {
	return poll.Until(ctx, func() error {
		body, err := get(ctx, "http://"+layout.Prometheus+"/api/v1/query?query="+url.QueryEscape(shop.SteadyLoad), nil)
		if err == nil && !strings.Contains(body, `"value"`) {
			err = errors.New("the shop's load is not steady in Prometheus")
		}
		return err
	})
}

// proveHeartbeat waits until the cluster removes what a failed Job owns,
// which is what ends the fault of a run that has died.
func (m *Mesh) proveHeartbeat(ctx context.Context) error {
	jobs := m.kube.Objects.Resource(schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}).Namespace(metav1.NamespaceDefault)
	owned := m.kube.Objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(metav1.NamespaceDefault)
	job, err := jobs.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"name": "heartbeat-proof"},
		"spec": map[string]any{
			"parallelism": int64(0), "completions": int64(1), "activeDeadlineSeconds": int64(1), "ttlSecondsAfterFinished": int64(0),
			"template": map[string]any{"spec": map[string]any{"restartPolicy": "Never", "containers": []any{map[string]any{"name": "none", "image": "none"}}}},
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	config := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "heartbeat-proof"}}}
	config.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: job.GetName(), UID: job.GetUID()}})
	if _, err := owned.Create(ctx, config, metav1.CreateOptions{}); err != nil {
		return err
	}
	return poll.Until(ctx, func() error {
		_, err := owned.Get(ctx, config.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("the owned object is still there"), err)
	})
}
