package kubelet

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/network"
)

// unresolved is the address of a host that only the mesh knows. A sidecar routes
// HTTP by the host, so any address that reaches the sidecar will do.
const unresolved = "240.240.0.1"

// services follows the Services and ServiceEntries of the cluster.
type services struct {
	typed    informers.SharedInformerFactory
	dynamic  dynamicinformer.DynamicSharedInformerFactory
	services corelisters.ServiceLister
	pods     corelisters.PodLister
	entries  cache.GenericLister
}

func newServices(kube kubernetes.Interface, config *rest.Config) (*services, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	typed := informers.NewSharedInformerFactory(kube, time.Hour)
	untyped := dynamicinformer.NewDynamicSharedInformerFactory(client, time.Hour)
	entries := untyped.ForResource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"})
	return &services{
		typed: typed, dynamic: untyped,
		services: typed.Core().V1().Services().Lister(), pods: typed.Core().V1().Pods().Lister(), entries: entries.Lister(),
	}, nil
}

// watch starts to follow, and returns when all objects are known.
func (s *services) watch(ctx context.Context) error {
	s.typed.Core().V1().Services().Informer()
	s.typed.Core().V1().Pods().Informer()
	s.typed.StartWithContext(ctx)
	s.dynamic.Start(ctx.Done())
	if result := s.typed.WaitForCacheSyncWithContext(ctx); result.Err != nil {
		return fmt.Errorf("list services: %w", result.Err)
	}
	for resource, synced := range s.dynamic.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("list %s: %w", resource.Resource, context.Cause(ctx))
		}
	}
	return nil
}

// resolve returns the addresses of a host for a client of a namespace. A direct
// client, one without a sidecar, gets the addresses of pods: only sidecars know
// the address of a Service.
func (s *services) resolve(host, namespace string, direct bool) []netip.Addr {
	if serviceNamespace, name, instance, ok := network.ServiceName(host, namespace); ok {
		if service, err := s.services.Services(serviceNamespace).Get(name); err == nil {
			return s.addressesOf(service, instance, direct)
		}
	}
	if entry := s.entryOf(host); entry != nil {
		addresses, _, _ := unstructured.NestedStringSlice(entry.Object, "spec", "addresses")
		addresses = append(addresses, allocated(entry, host)...)
		for _, address := range append(addresses, unresolved) {
			if ip, err := netip.ParseAddr(address); err == nil {
				return []netip.Addr{ip}
			}
		}
	}
	return nil
}

// allocated returns the addresses that istiod has allocated for a host of a
// ServiceEntry without addresses.
func allocated(entry *unstructured.Unstructured, host string) []string {
	list, _, _ := unstructured.NestedSlice(entry.Object, "status", "addresses")
	var addresses []string
	for _, item := range list {
		fields, _ := item.(map[string]any)
		if value, ok := fields["value"].(string); ok && fields["host"] == host {
			addresses = append(addresses, value)
		}
	}
	return addresses
}

// addressesOf returns the address of a Service, or of its pods if it is
// headless or the client direct; with an instance, only of the pod of that name.
func (s *services) addressesOf(service *corev1.Service, instance string, direct bool) []netip.Addr {
	if service.Spec.ClusterIP != corev1.ClusterIPNone && !direct {
		ip, err := netip.ParseAddr(service.Spec.ClusterIP)
		if err != nil || instance != "" {
			return nil
		}
		return []netip.Addr{ip}
	}
	pods, err := s.pods.Pods(service.Namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return nil
	}
	var addresses []netip.Addr
	for _, pod := range pods {
		if ip, err := netip.ParseAddr(pod.Status.PodIP); err == nil && (instance == "" || pod.Name == instance) {
			addresses = append(addresses, ip)
		}
	}
	return addresses
}

// entryOf returns the ServiceEntry of a host, or nil.
func (s *services) entryOf(host string) *unstructured.Unstructured {
	objects, err := s.entries.List(labels.Everything())
	if err != nil {
		return nil
	}
	for _, object := range objects {
		entry, ok := object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		hosts, _, _ := unstructured.NestedStringSlice(entry.Object, "spec", "hosts")
		for _, pattern := range hosts {
			if pattern == host || strings.HasPrefix(pattern, "*.") && strings.HasSuffix(host, pattern[1:]) {
				return entry
			}
		}
	}
	return nil
}

// hostOf returns the host of the Service that selects a workload and has a
// target port; empty if there is none.
func (s *services) hostOf(w identity.Workload, port string) string {
	services, err := s.services.Services(w.Namespace).List(labels.Everything())
	if err != nil {
		return ""
	}
	for _, service := range services {
		if len(service.Spec.Selector) == 0 || !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(w.Labels)) {
			continue
		}
		for _, p := range service.Spec.Ports {
			if target := p.TargetPort.IntValue(); strconv.Itoa(target) == port || target == 0 && strconv.Itoa(int(p.Port)) == port {
				return service.Name + "." + service.Namespace + ".svc.cluster.local"
			}
		}
	}
	return ""
}

// namespaceOf returns the namespace of the ServiceEntry of a host; empty if
// there is none.
func (s *services) namespaceOf(host string) string {
	entry := s.entryOf(host)
	if entry == nil {
		return metav1.NamespaceNone
	}
	return entry.GetNamespace()
}
