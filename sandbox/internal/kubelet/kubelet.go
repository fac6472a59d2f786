// Package kubelet runs the pods of the sandbox's only node. A pod is a network
// namespace with the processes of its containers and, where its namespace asks
// for injection, a sidecar: pilot-agent and Envoy behind Istio's iptables rules.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/network"
	"github.com/squall-chaos/squall/sandbox/internal/process"
)

// NodeName is the name of the node.
const NodeName = "sandbox"

// readyTimeout is how long a container may take until it answers.
const readyTimeout = 2 * time.Minute

// Programs are the paths of what pods run.
type Programs struct {
	// Sandbox serves the applications.
	Sandbox string
	// ControlPlane contains pilot-agent.
	ControlPlane string
	Envoy        string
	// Bootstrap is the template of Envoy's first configuration.
	Bootstrap string
}

// Kubelet runs pods.
type Kubelet struct {
	kube     kubernetes.Interface
	dir      layout.Dir
	programs Programs
	node     *network.Node
	group    *process.Group
	log      io.Writer
	services *services

	mu   sync.Mutex
	pods map[string]*pod // by namespace/name
}

// New returns a kubelet; nothing runs yet. Processes are children of the group.
func New(config *rest.Config, dir layout.Dir, programs Programs, node *network.Node, group *process.Group, log io.Writer) (*Kubelet, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	services, err := newServices(kube, config)
	if err != nil {
		return nil, err
	}
	return &Kubelet{kube: kube, dir: dir, programs: programs, node: node, group: group, log: log, services: services, pods: map[string]*pod{}}, nil
}

// Run registers the node, serves names and metrics, and runs the pods that are
// bound to the node. It returns when all of it has begun; it ends with ctx.
func (k *Kubelet) Run(ctx context.Context) error {
	if err := k.register(ctx); err != nil {
		return err
	}
	if err := k.services.watch(ctx); err != nil {
		return err
	}
	if err := network.ServeDNS(ctx, k.resolve); err != nil {
		return fmt.Errorf("serve names: %w", err)
	}
	if err := k.serveMetrics(ctx); err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	bound := cache.NewListWatchFromClient(k.kube.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, fields.OneTermEqualSelector("spec.nodeName", NodeName))
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: bound,
		ObjectType:    &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { k.see(ctx, object) },
			UpdateFunc: func(_, object any) { k.see(ctx, object) },
			DeleteFunc: k.forget,
		},
	})
	go informer.RunWithContext(ctx)
	return nil
}

// register creates the Node object. The endpoint controller skips pods of a
// node that does not exist.
func (k *Kubelet) register(ctx context.Context) error {
	node, err := k.kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   NodeName,
		Labels: map[string]string{"kubernetes.io/hostname": NodeName, "kubernetes.io/os": "linux"},
	}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("register the node: %w", err)
	}
	node.Status = corev1.NodeStatus{
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: network.NodeAddress}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}},
		NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.36.3", OperatingSystem: "linux"},
	}
	if _, err := k.kube.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("register the node: %w", err)
	}
	return nil
}

// see starts a new pod, and stops one that is being deleted.
func (k *Kubelet) see(ctx context.Context, object any) {
	spec, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	key := spec.Namespace + "/" + spec.Name
	k.mu.Lock()
	p, known := k.pods[key]
	if !known && spec.DeletionTimestamp == nil {
		p = k.newPod(spec)
		k.pods[key] = p
	}
	k.mu.Unlock()
	switch {
	case spec.DeletionTimestamp != nil:
		go k.remove(context.WithoutCancel(ctx), spec, p)
	case !known:
		go func() {
			if err := k.start(ctx, p); err != nil && ctx.Err() == nil && !p.removed() {
				fmt.Fprintf(k.log, "sandbox: pod %s: %v\n", key, err)
			}
		}()
	}
}

// remove stops a pod and confirms its deletion.
func (k *Kubelet) remove(ctx context.Context, spec *corev1.Pod, p *pod) {
	if p != nil {
		k.stop(p)
	}
	now := int64(0)
	_ = k.kube.CoreV1().Pods(spec.Namespace).Delete(ctx, spec.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}) // deleted meanwhile, or with the sandbox
}

// forget stops a pod that was deleted at once.
func (k *Kubelet) forget(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	if spec, ok := object.(*corev1.Pod); ok {
		k.mu.Lock()
		p := k.pods[spec.Namespace+"/"+spec.Name]
		delete(k.pods, spec.Namespace+"/"+spec.Name)
		k.mu.Unlock()
		if p != nil {
			go k.stop(p)
		}
	}
}

// WorkloadAt implements telemetry.Directory.
func (k *Kubelet) WorkloadAt(address netip.Addr) (identity.Workload, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		if p.network != nil && p.network.IP == address {
			return p.workload, true
		}
	}
	return identity.Workload{}, false
}

// HostOf implements telemetry.Directory.
func (k *Kubelet) HostOf(address netip.Addr, port string) string {
	w, ok := k.WorkloadAt(address)
	if !ok {
		return ""
	}
	return k.services.hostOf(w, port)
}

// NamespaceOf implements telemetry.Directory.
func (k *Kubelet) NamespaceOf(host string) string { return k.services.namespaceOf(host) }

// istiodHost is the name by which pods know istiod.
const istiodHost = "istiod.istio-system.svc.cluster.local"

// resolve implements network.Resolver.
func (k *Kubelet) resolve(host string, client netip.Addr) []netip.Addr {
	if host == istiodHost {
		return []netip.Addr{netip.MustParseAddr(network.NodeAddress)}
	}
	k.mu.Lock()
	namespace, direct := "", true
	for _, p := range k.pods {
		if p.network != nil && p.network.IP == client {
			namespace, direct = p.workload.Namespace, p.kind == noProxy
		}
	}
	k.mu.Unlock()
	return k.services.resolve(host, namespace, direct)
}

var errNoPod = errors.New("no such pod")

// Enter returns the function that starts a process in the network of a pod,
// named NAMESPACE/POD or NAMESPACE/WORKLOAD.
func (k *Kubelet) Enter(name string) (func(func() error) error, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.pods[name]
	var names []string
	for _, other := range k.pods {
		names = append(names, other.workload.Namespace+"/"+other.workload.Name)
		if !ok && other.workload.Namespace+"/"+other.workload.Name == name {
			p, ok = other, true
		}
	}
	if !ok || p.network == nil {
		return nil, fmt.Errorf("%q: %w; there are %s", name, errNoPod, strings.Join(names, ", "))
	}
	return p.network.Do, nil
}
