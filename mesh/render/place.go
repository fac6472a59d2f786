package render

import (
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/routing"
)

// Place is a namespace for an object, and its visibility there for the callers.
type Place struct {
	Namespace  string
	ExportTo   string
	Visibility config.Visibility
}

// DescribeBase returns an effective VirtualService in words; nil is the default route.
func DescribeBase(base *routing.Candidate) string {
	if base == nil {
		return "the default route"
	}
	return "VirtualService " + base.Name()
}
