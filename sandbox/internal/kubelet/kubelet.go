// Package kubelet runs the pods of the sandbox's only node. A pod is a network
// namespace with the processes of its containers and, where its namespace asks
// for injection, a sidecar: pilot-agent and Envoy behind Istio's iptables rules.
package kubelet

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/squall-chaos/squall/sandbox/internal/control"
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
	pods     *pods
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
	return &Kubelet{kube: kube, dir: dir, programs: programs, node: node, group: group, log: log, pods: &pods{services: services, byName: map[string]*pod{}}}, nil
}

// Run registers the node, serves names and metrics, and runs the pods that are
// bound to the node. It returns when all of it has begun; it ends with ctx.
func (k *Kubelet) Run(ctx context.Context) error {
	if err := k.register(ctx); err != nil {
		return err
	}
	if err := k.pods.services.watch(ctx); err != nil {
		return err
	}
	if err := network.ServeDNS(ctx, k.pods.resolve); err != nil {
		return fmt.Errorf("serve names: %w", err)
	}
	if err := k.pods.serveMetrics(ctx); err != nil {
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
	p, known := k.pods.find(spec)
	if !known && spec.DeletionTimestamp == nil {
		p = k.pods.add(spec)
	}
	switch {
	case spec.DeletionTimestamp != nil:
		go k.remove(context.WithoutCancel(ctx), spec, p)
	case !known:
		go func() {
			if err := k.start(ctx, p); err != nil && ctx.Err() == nil && !p.removed() {
				fmt.Fprintf(k.log, "sandbox: pod %s/%s: %v\n", spec.Namespace, spec.Name, err)
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
		if p := k.pods.take(spec); p != nil {
			go k.stop(p)
		}
	}
}

// Enter returns where commands for a pod run, which is named NAMESPACE/POD or
// NAMESPACE/WORKLOAD.
func (k *Kubelet) Enter(name string) (control.Pod, error) {
	p, namespace, err := k.pods.running(name)
	if err != nil {
		return control.Pod{}, err
	}
	pod := control.Pod{Do: namespace.Do}
	if p.kind == grpcAgent {
		bootstrap, err := k.directBootstrap(p)
		if err != nil {
			return control.Pod{}, err
		}
		pod.Env = []string{identity.BootstrapVariable + "=" + bootstrap}
	}
	return pod, nil
}
