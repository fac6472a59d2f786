// Package router computes the routes of the proxies of a gateway, which Istio calls
// routers: which Gateways select them, which servers these have, and the routes for
// each host by which clients reach them, in the order in which Envoy matches them.
//
// It is pure, and follows istiod's code; each rule names its source.
package router

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
)

// Workload is the pods of a namespace that carry at least the labels.
type Workload struct {
	Namespace string
	Labels    map[string]string
}

// Exists reports whether a Service of the namespace selects pods that may carry the
// labels. Pods are not part of a snapshot.
func (w Workload) Exists(s config.Snapshot) bool { return len(w.services(s)) > 0 }

// IsAlone reports whether no Service of the namespace selects pods without the labels.
func (w Workload) IsAlone(s config.Snapshot) bool {
	return !slices.ContainsFunc(s.Services, func(service config.Service) bool {
		return service.Namespace == w.Namespace && len(service.Selector) > 0 && labels.Conflicts(service.Selector, w.Labels)
	})
}

// services returns the Services whose pods may carry the labels.
func (w Workload) services(s config.Snapshot) []config.Service {
	var found []config.Service
	for _, service := range s.Services {
		if service.Namespace == w.Namespace && len(service.Selector) > 0 && !labels.Conflicts(service.Selector, w.Labels) {
			found = append(found, service)
		}
	}
	return found
}

// Selected are the Gateways of a workload.
type Selected struct {
	// Gateways select all of its pods, the oldest first.
	Gateways []*unstructured.Unstructured
	// Unsure may select some of its pods: their selectors have labels that are not
	// known of the pods.
	Unsure []*unstructured.Unstructured
}

// Select returns the Gateways that select the pods of a workload: those in any
// namespace whose selector the pods' labels include, and those without a selector
// (istio.io/istio/pilot/pkg/model, PushContext.mergeGateways). The order is by age
// (PushContext.initGateways). Labels that the workload does not name are known from the
// selectors of the Services.
//
// istiod with PILOT_SCOPE_GATEWAY_TO_NAMESPACE ignores Gateways of other namespaces; a
// snapshot does not have the environment of istiod.
func Select(s config.Snapshot, w Workload) Selected {
	var all Selected
	for _, gateway := range slices.SortedFunc(slices.Values(s.Gateways), config.CompareAge) {
		if !s.Watches(gateway.GetNamespace()) {
			continue
		}
		switch w.selectedBy(s, Selector(gateway)) {
		case config.OnlyGateway:
			all.Gateways = append(all.Gateways, gateway)
		case config.SomeGateway:
			all.Unsure = append(all.Unsure, gateway)
		case config.NoGateway:
		}
	}
	return all
}

// Selector returns the selector of a Gateway.
func Selector(gateway *unstructured.Unstructured) labels.Set {
	selected := labels.Set{}
	for key, value := range fields.Map(fields.Map(gateway.Object, "spec"), "selector") {
		selected[key], _ = value.(string)
	}
	return selected
}

// selectedBy returns how many of the pods a selector selects.
func (w Workload) selectedBy(s config.Snapshot, selector labels.Set) config.GatewayPods {
	switch {
	case selector.AsSelector().Matches(labels.Set(w.Labels)):
		return config.OnlyGateway
	case labels.Conflicts(selector, w.Labels):
		return config.NoGateway
	}
	all, none := true, true
	for _, service := range w.services(s) {
		pods := labels.Merge(service.Selector, w.Labels)
		all = all && selector.AsSelector().Matches(pods)
		none = none && labels.Conflicts(selector, pods)
	}
	switch {
	case !w.Exists(s):
		return config.SomeGateway
	case all:
		return config.OnlyGateway
	case none:
		return config.NoGateway
	default:
		return config.SomeGateway
	}
}
