package validation

import (
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/fields"
)

// Check returns why the API server or istiod refuses an object of the group
// networking.istio.io, as far as its spec is concerned. It returns nil for a kind that
// it does not know.
func Check(o *unstructured.Unstructured) []Problem {
	known, ok := schemas()[o.GetKind()]
	if !ok {
		return nil
	}
	// The rules read the fields, so these must have the right types.
	if wrong := known.check("spec", o.Object["spec"], nil); len(wrong) > 0 {
		return wrong
	}
	c := &checker{}
	spec := fields.Map(o.Object, "spec")
	switch o.GetKind() {
	case "VirtualService":
		c.virtualService(spec)
	case "ServiceEntry":
		c.require("spec.hosts", len(fields.Strings(spec, "hosts")) > 0)
		for i, port := range fields.Maps(spec, "ports") {
			c.port(fmt.Sprintf("spec.ports[%d]", i), port)
		}
	case "DestinationRule":
		c.require("spec.host", fields.String(spec, "host") != "")
	case "Sidecar":
		c.sidecar(spec)
	case "Gateway":
		for i, server := range fields.Maps(spec, "servers") {
			path := fmt.Sprintf("spec.servers[%d]", i)
			c.require(path+".hosts", len(fields.Strings(server, "hosts")) > 0)
			c.port(path+".port", fields.Map(server, "port"))
		}
	}
	return c.found
}

// checker collects the problems of one object. Its rules come from
// istio.io/istio/pkg/config/validation.
type checker struct{ found []Problem }

func (c *checker) add(path, format string, args ...any) {
	c.found = append(c.found, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (c *checker) require(path string, is bool) {
	if !is {
		c.add(path, "is missing")
	}
}

// port checks the number of a port (ValidatePort).
func (c *checker) port(path string, port map[string]any) {
	if number, _ := fields.Int(port["number"]); number < 1 || number > 65535 {
		c.add(path+".number", "%d is not a port", number)
	}
}

// sidecar checks the hosts of egress listeners (validateSidecarEgressHosts).
func (c *checker) sidecar(spec map[string]any) {
	for i, egress := range fields.Maps(spec, "egress") {
		path := fmt.Sprintf("spec.egress[%d].hosts", i)
		hosts := fields.Strings(egress, "hosts")
		c.require(path, len(hosts) > 0)
		for j, name := range hosts {
			if strings.Count(name, "/") != 1 {
				c.add(fmt.Sprintf("%s[%d]", path, j), "%q is not of the form namespace/host", name)
			}
		}
	}
}

// virtualService checks the routes (ValidateVirtualService, validateHTTPRoute).
func (c *checker) virtualService(spec map[string]any) {
	for i, route := range fields.Maps(spec, "http") {
		path := fmt.Sprintf("spec.http[%d]", i)
		actions := 0
		for _, action := range []string{"route", "redirect", "directResponse", "delegate"} {
			if route[action] != nil {
				actions++
			}
		}
		if actions != 1 {
			c.add(path, "must have exactly one of route, redirect, directResponse and delegate")
		}
		c.destinations(path, fields.Maps(route, "route"))
		for j, match := range fields.Maps(route, "match") {
			c.matches(fmt.Sprintf("%s.match[%d]", path, j), match)
		}
	}
	for _, protocol := range []string{"tcp", "tls"} {
		for i, route := range fields.Maps(spec, protocol) {
			path := fmt.Sprintf("spec.%s[%d]", protocol, i)
			c.require(path+".route", len(fields.Maps(route, "route")) > 0)
			c.destinations(path, fields.Maps(route, "route"))
		}
	}
}

// destinations checks the hosts and weights of one route (validateWeights).
func (c *checker) destinations(path string, route []map[string]any) {
	var total int64
	for i, weighted := range route {
		at := fmt.Sprintf("%s.route[%d]", path, i)
		c.require(at+".destination.host", fields.String(fields.Map(weighted, "destination"), "host") != "")
		weight, _ := fields.Int(weighted["weight"])
		if weight < 0 {
			c.add(at+".weight", "%d is negative", weight)
		}
		total += weight
	}
	if len(route) > 1 && total == 0 {
		c.add(path+".route", "the weights add up to 0")
	}
}

// matches checks the regular expressions of a match (validateStringMatchRegexp).
func (c *checker) matches(path string, match map[string]any) {
	check := func(at string, m map[string]any) {
		if expression := fields.String(m, "regex"); expression != "" {
			if _, err := regexp.Compile(expression); err != nil {
				c.add(at+".regex", "%q is not an RE2 regex", expression)
			}
		}
	}
	for _, field := range []string{"uri", "scheme", "method", "authority"} {
		check(path+"."+field, fields.Map(match, field))
	}
	for _, field := range []string{"headers", "withoutHeaders", "queryParams"} {
		for name := range fields.Map(match, field) {
			check(path+"."+field+"."+name, fields.Map(fields.Map(match, field), name))
		}
	}
}
