package config

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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
func (s Snapshot) GatewayOf(namespace string, labels map[string]string) (*unstructured.Unstructured, GatewayPods) {
	var some *unstructured.Unstructured
	for _, gateway := range s.Gateways {
		selector := map[string]string{}
		for key, value := range fields.Map(fields.Map(gateway.Object, "spec"), "selector") {
			selector[key], _ = value.(string)
		}
		if len(selector) == 0 {
			continue
		}
		if within(selector, labels) {
			return gateway, OnlyGateway
		}
		behind, others := 0, 0
		for _, service := range s.Services {
			switch {
			case service.Namespace != namespace || len(service.Selector) == 0 || conflicts(service.Selector, labels):
			case within(selector, service.Selector):
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

// within reports whether labels have all that a selector requires.
func within(selector, labels map[string]string) bool {
	for key, value := range selector {
		if own, has := labels[key]; !has || own != value {
			return false
		}
	}
	return true
}

// conflicts reports whether no pod can carry the labels of both.
func conflicts(a, b map[string]string) bool {
	for key, value := range a {
		if own, has := b[key]; has && own != value {
			return true
		}
	}
	return false
}
