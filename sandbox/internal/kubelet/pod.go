package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/network"
	"github.com/squall-chaos/squall/sandbox/internal/poll"
	"github.com/squall-chaos/squall/sandbox/internal/process"
	"github.com/squall-chaos/squall/sandbox/internal/telemetry"
)

// appUser is the user of applications. It must not be the sidecar's, whose
// calls are not redirected.
const appUser = 1338

// pod is a pod that runs or starts.
type pod struct {
	spec     *corev1.Pod
	workload identity.Workload
	// kind is the kind of its proxy; empty if it has none.
	kind     proxyKind
	network  *network.Namespace // guarded by the mutex of pods
	reporter *telemetry.Reporter
	children []*process.Child // guarded by the mutex of pods
	gone     atomic.Bool
}

func (p *pod) removed() bool { return p.gone.Load() }

// name returns the pod's name in logs.
func (p *pod) name() string { return p.spec.Namespace + "." + p.spec.Name }

// workloadOf returns the name of the Deployment of a pod, or of the pod if it
// has none.
func workloadOf(spec *corev1.Pod) string {
	hash, hashed := spec.Labels["pod-template-hash"]
	for _, owner := range spec.OwnerReferences {
		if owner.Kind == "ReplicaSet" && hashed {
			return strings.TrimSuffix(owner.Name, "-"+hash)
		}
	}
	return spec.Name
}

// start brings a pod up: network, sidecar, containers.
func (k *Kubelet) start(ctx context.Context, p *pod) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	kind, err := k.kindOf(ctx, p.spec)
	if err != nil {
		return err
	}
	k.pods.mu.Lock()
	p.kind = kind
	p.network, err = k.node.NewPod()
	if err == nil {
		p.workload.IP = p.network.IP.String()
		if p.kind.hasEnvoy() {
			p.reporter = telemetry.NewSidecar(p.workload)
		}
	}
	k.pods.mu.Unlock()
	if err != nil {
		return err
	}
	if err := k.report(ctx, p, false); err != nil {
		return err
	}
	if p.kind != noProxy {
		if err := k.startProxy(ctx, p); err != nil {
			return fmt.Errorf("sidecar: %w", err)
		}
	}
	for _, container := range p.spec.Spec.Containers {
		if err := k.startContainer(ctx, p, container); err != nil {
			return fmt.Errorf("container %s: %w", container.Name, err)
		}
	}
	return k.report(ctx, p, true)
}

// run starts a process of the pod.
func (k *Kubelet) run(p *pod, program process.Program) (*process.Child, error) {
	if p.removed() {
		return nil, errors.New("the pod is being deleted")
	}
	program.Name, program.Within = p.name()+"."+program.Name, p.network.Do
	child, err := k.group.Start(program)
	if err == nil {
		k.pods.mu.Lock()
		p.children = append(p.children, child)
		k.pods.mu.Unlock()
	}
	return child, err
}

// stop kills the processes of a pod and releases its network.
func (k *Kubelet) stop(p *pod) {
	if p.gone.Swap(true) {
		return
	}
	k.pods.mu.Lock()
	children := slices.Clone(p.children)
	ns := p.network
	p.network = nil
	k.pods.mu.Unlock()
	for _, child := range children {
		_ = k.group.Kill(child) // ended already
	}
	if ns != nil {
		_ = ns.Close() // a descriptor
	}
	_ = os.RemoveAll(k.podDir(p)) // removed with the sandbox
}

func (k *Kubelet) podDir(p *pod) string { return k.dir.Path("pods", p.name()) }

// startContainer starts the application of a container and waits until its
// ports answer. A container without arguments only holds the pod open.
func (k *Kubelet) startContainer(ctx context.Context, p *pod, container corev1.Container) error {
	if len(container.Args) == 0 {
		return nil
	}
	env := []string{"POD_NAMESPACE=" + p.workload.Namespace, "POD_IP=" + p.workload.IP, "WORKLOAD=" + p.workload.Name, "VERSION=" + p.workload.Labels["version"], "APP=" + p.workload.Labels["app"], "HOME=/", "PATH=/usr/bin:/bin"}
	if p.kind == grpcAgent {
		env = append(env, k.bootstrapVariable(p))
	}
	for _, variable := range container.Env {
		env = append(env, variable.Name+"="+variable.Value)
	}
	_, err := k.run(p, process.Program{
		Name: container.Name, Path: k.programs.Sandbox, Args: append([]string{"app"}, container.Args...), Env: env, Dir: "/", User: appUser,
	})
	if err != nil {
		return err
	}
	for _, port := range container.Ports {
		if port.Protocol == corev1.ProtocolUDP {
			continue
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port.ContainerPort)))
		if err := poll.Until(ctx, func() error { return p.dial(ctx, address) }); err != nil {
			return fmt.Errorf("port %d: %w", port.ContainerPort, err)
		}
	}
	return nil
}

// dial connects from inside the pod.
func (p *pod) dial(ctx context.Context, address string) error {
	return p.network.Do(func() error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// report writes the status of the pod.
func (k *Kubelet) report(ctx context.Context, p *pod, ready bool) error {
	state := corev1.ConditionFalse
	if ready {
		state = corev1.ConditionTrue
	}
	now := metav1.Now()
	var containers []corev1.ContainerStatus
	for _, c := range p.spec.Spec.Containers {
		containers = append(containers, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: ready, Started: &ready,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return retry(ctx, func() error {
		current, err := k.kube.CoreV1().Pods(p.spec.Namespace).Get(ctx, p.spec.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		current.Status = corev1.PodStatus{
			Phase: corev1.PodRunning, StartTime: &now, HostIP: network.NodeAddress,
			PodIP: p.workload.IP, PodIPs: []corev1.PodIP{{IP: p.workload.IP}},
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
				{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
				{Type: corev1.ContainersReady, Status: state, LastTransitionTime: now},
				{Type: corev1.PodReady, Status: state, LastTransitionTime: now},
			},
			ContainerStatuses: containers,
		}
		_, err = k.kube.CoreV1().Pods(p.spec.Namespace).UpdateStatus(ctx, current, metav1.UpdateOptions{})
		return err
	})
}

// retry tries again while another writer has changed the object meanwhile.
func retry(ctx context.Context, try func() error) error {
	var err error
	for range 5 {
		if err = try(); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// get reads a URL without connections that stay open.
func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

// writeFile writes a file that the proxy reads.
func writeFile(dir, name, content string) error {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o600)
}
