package config

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/istio/fields"
)

// GatewayPods is whether pods belong to a gateway.
type GatewayPods int

// The answers.
const (
	NoGateway   GatewayPods = iota // none of them, as far as the Gateways tell
	SomeGateway                    // some of them
	OnlyGateway                    // all of them
)

// GatewayOf reports whether the pods of a namespace that carry at least the labels
// belong to a gateway: a Gateway selects pods by their labels, in any namespace
// (istio.io/istio/pilot/pkg/model, mergeGateways). Of pods whose labels are not known
// the Services of the namespace tell. It returns the Gateway, nil if there is none.
func (s Snapshot) GatewayOf(namespace string, own map[string]string) (*unstructured.Unstructured, GatewayPods) {
	var some *unstructured.Unstructured
	for _, gateway := range s.Gateways {
		selected := labels.Set{}
		for key, value := range fields.Map(fields.Map(gateway.Object, "spec"), "selector") {
			selected[key], _ = value.(string)
		}
		if len(selected) == 0 {
			continue
		}
		selector := selected.AsSelector()
		if selector.Matches(labels.Set(own)) {
			return gateway, OnlyGateway
		}
		behind, others := 0, 0
		for _, service := range s.Services {
			switch {
			case service.Namespace != namespace || len(service.Selector) == 0 || labels.Conflicts(service.Selector, own):
			case selector.Matches(labels.Set(service.Selector)):
				behind++
			default:
				others++
			}
		}
		switch {
		case behind > 0 && others == 0:
			return gateway, OnlyGateway
		case behind > 0:
			some = gateway
		}
	}
	if some != nil {
		return some, SomeGateway
	}
	return nil, NoGateway
}
