package gateway

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/router"
)

// Needs is the part of a snapshot that plans for calls through gateways need.
// It is empty for an experiment without such calls.
type Needs struct {
	// destinations are the hosts that the routes of gateways lead to, in lower case.
	destinations map[string]bool
	// selectors are the selectors of the Gateways.
	selectors []labels.Selector
}

// NeedsOf returns the needs of an experiment. destinations returns the hosts that the
// routes of VirtualServices lead to.
func NeedsOf(s config.Snapshot, spec experiments.Spec, destinations func([]*unstructured.Unstructured) []string) Needs {
	needed := slices.ContainsFunc(spec.Injections(), func(i experiments.Injection) bool {
		return slices.ContainsFunc(i.Callers, func(c experiments.Caller) bool { return c.Gateway != nil })
	})
	if !needed {
		return Needs{}
	}
	found := Needs{destinations: map[string]bool{}}
	var bound []*unstructured.Unstructured
	for _, vs := range s.VirtualServices {
		if len(router.Binds(vs)) > 0 || len(fields.Strings(vs.Object, "spec", "hosts")) == 0 {
			bound = append(bound, vs)
		}
	}
	for _, name := range destinations(bound) {
		found.destinations[strings.ToLower(name)] = true
	}
	for _, gateway := range s.Gateways {
		if selector := router.Selector(gateway); len(selector) > 0 {
			found.selectors = append(found.selectors, selector.AsSelector())
		}
	}
	return found
}

// VirtualService reports whether a VirtualService may have routes of a gateway.
func (t Needs) VirtualService(vs *unstructured.Unstructured) bool {
	return t.destinations != nil && len(router.Binds(vs)) > 0
}

// Entry reports whether a route of a gateway leads to a ServiceEntry.
func (t Needs) Entry(entry *unstructured.Unstructured) bool {
	return slices.ContainsFunc(fields.Strings(entry.Object, "spec", "hosts"), func(name string) bool { return t.destinations[strings.ToLower(name)] })
}

// Service reports whether a route of a gateway leads to a Service, or a Gateway selects
// its pods.
func (t Needs) Service(s config.Snapshot, service config.Service) bool {
	return t.destinations[strings.ToLower(s.HostOf(service))] || len(service.Selector) > 0 &&
		slices.ContainsFunc(t.selectors, func(selector labels.Selector) bool { return selector.Matches(labels.Set(service.Selector)) })
}
