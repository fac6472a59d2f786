package mesh

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// renderConnections gives an object the tcp and tls rules that blackholes need.
//
// For connections istiod goes through all VirtualServices of the host and takes
// the first rule that is for the proxy and the port
// (istio.io/istio/pilot/pkg/networking/core, buildSidecarOutboundTCPFilterChainOpts
// and buildSidecarOutboundTLSFilterChainOpts). So an object needs no copy of
// the rules for others: they stay where they are.
func (r *renderer) renderConnections(spec map[string]any, active []injection) error {
	var tcp, tls []any
	for _, port := range r.blackholes.known {
		for _, part := range r.connectionParts(active, port) {
			var err error
			switch {
			case port.hasTCPRoutes():
				tcp, err = r.divertConnections(tcp, "tcp", part)
			case port.speaks() == speaksTLS:
				tls, err = r.divertConnections(tls, "tls", part)
			}
			if err != nil {
				return err
			}
		}
	}
	for field, diverted := range map[string][]any{"tcp": tcp, "tls": tls} {
		if len(diverted) > 0 {
			spec[field] = diverted
		}
	}
	return nil
}

// connectionParts cuts the connections to a port into those that different sets
// of blackholes are for, the more specific first.
func (r *renderer) connectionParts(active []injection, port Port) []segment {
	whole := condition{"port": port.Number}
	parts := []segment{{match: []condition{whole}}}
	for _, s := range active {
		if s.Fault.Blackhole == nil {
			continue
		}
		for _, c := range requestless(s, port) {
			var next []segment
			for _, part := range parts {
				both, ok, err := conjoin(part.match[0], c, r.callers)
				switch {
				case err != nil || !ok || slices.ContainsFunc(part.injections, s.same):
					next = append(next, part)
				case reflect.DeepEqual(both, part.match[0]):
					next = append(next, segment{part.match, append(slices.Clone(part.injections), s)})
				default:
					next = append(next, segment{[]condition{both}, append(slices.Clone(part.injections), s)}, part)
				}
			}
			parts = next
		}
	}
	return slices.DeleteFunc(parts, func(p segment) bool { return len(p.injections) == 0 })
}

// requestless gives the conditions of an injection on the connections to a port;
// those that look at requests cannot be met by one.
func requestless(s injection, port Port) []condition {
	if s.Target.Port != 0 && int64(s.Target.Port) != port.Number {
		return nil
	}
	conditions := s.conditions
	if len(conditions) == 0 {
		conditions = []condition{{}}
	}
	var found []condition
	for _, c := range conditions {
		c = maps.Clone(c)
		c["port"] = port.Number
		extra := maps.Clone(c)
		delete(extra, "port")
		delete(extra, "sourceLabels")
		if len(extra) == 0 {
			found = append(found, c)
		}
	}
	return found
}

// divertConnections adds the rules that divert a part of the connections: a
// narrowed copy of each rule that is in force for them.
func (r *renderer) divertConnections(rules []any, protocol string, part segment) ([]any, error) {
	c := part.match[0]
	for _, vs := range r.connectionRules(r.listener) {
		if b := r.bucketFor(vs, r.callers); b <= r.place.bucket && len(mapsAt(mapAt(vs.Object, "spec"), protocol)) > 0 {
			return nil, refuse(PrivateConnections, "remove exportTo from it, or name callers in another namespace", "VirtualService %s/%s has %s routes and is %s, where nothing outranks them", vs.GetNamespace(), vs.GetName(), protocol, b)
		}
		spec := runtime.DeepCopyJSON(mapAt(vs.Object, "spec"))
		qualifyDestinations(spec, vs.GetNamespace(), r.ClusterDomain)
		for _, rule := range mapsAt(spec, protocol) {
			if len(mapsAt(rule, "route")) == 0 {
				continue
			}
			if err := r.checkOverlap(vs, rule, c); err != nil {
				return nil, err
			}
			narrowed, final := r.narrowConnections(rule, protocol, c)
			if len(narrowed) == 0 {
				continue
			}
			rule["match"] = narrowed
			if err := r.divertRule(rule, part.injections); err != nil {
				return nil, err
			}
			rules = append(rules, rule)
			if final {
				return rules, nil
			}
		}
	}
	match := runtime.DeepCopyJSON(c)
	if protocol == "tls" {
		if err := r.checkServerName(); err != nil {
			return nil, err
		}
		match["sniHosts"] = []any{r.host}
	}
	rule := map[string]any{
		"match": []any{match},
		"route": []any{map[string]any{"destination": map[string]any{"host": r.host, "port": map[string]any{"number": c["port"]}}}},
	}
	return append(rules, rule), r.divertRule(rule, part.injections)
}

func (r *renderer) divertRule(rule map[string]any, injections []injection) error {
	for _, s := range injections {
		r.traceInjection(s, rule)
		if slices.ContainsFunc(mapsAt(rule, "route"), func(weighted map[string]any) bool { return r.isTarget(s, weighted) }) {
			r.diverted[s.Number] = true
		}
	}
	return r.blackholes.divert(rule, injections, r.isTarget)
}

// checkServerName refuses to make the first tls rule of a host whose listener
// has an address of its own. Today such a proxy forwards whatever server name a
// caller asks for; with a rule for one name, connections with any other would
// pass by the target.
func (r *renderer) checkServerName() error {
	addressed := slices.ContainsFunc(r.standIns(r.host), func(i standIn) bool { return i.addressed })
	if !addressed {
		return nil
	}
	return refuse(OtherServerNames, "name target.port if another port is meant; a tls rule of a VirtualService for the host, as Istio's users write it, would say which names count",
		"connections to a TLS port of %s carry any server name today, and a blackhole could take only those with exactly this one", r.host)
}

// narrowConnections gives the matches of a rule narrowed to c, and whether the
// rule takes all such connections.
func (r *renderer) narrowConnections(rule map[string]any, protocol string, c condition) (narrowed []any, final bool) {
	matches := mapsAt(rule, "match")
	if len(matches) == 0 && protocol == "tcp" {
		return []any{runtime.DeepCopyJSON(c)}, true
	}
	for _, m := range matches {
		if gateways := stringsAt(m, "gateways"); len(gateways) > 0 && !slices.Contains(gateways, meshGateway) {
			continue
		}
		if namespace, _ := m["sourceNamespace"].(string); namespace != "" && namespace != r.callers {
			continue
		}
		if port, set := asInt(m["port"]); set && port != 0 && port != c["port"] {
			continue
		}
		if protocol == "tls" && !slices.ContainsFunc(stringsAt(m, "sniHosts"), func(name string) bool { return hostWithin(r.host, strings.ToLower(name)) }) {
			continue
		}
		both := runtime.DeepCopyJSON(m)
		delete(both, "gateways")
		labels := maps.Clone(mapAt(c, "sourceLabels"))
		clash := false
		for key, value := range mapAt(m, "sourceLabels") {
			if labels == nil {
				labels = map[string]any{}
			}
			own, has := labels[key]
			clash = clash || has && own != value
			labels[key] = value
		}
		if clash {
			continue
		}
		if len(labels) > 0 {
			both["sourceLabels"] = labels
		}
		both["port"] = c["port"]
		if protocol == "tls" {
			both["sniHosts"] = []any{r.host}
		}
		narrowed = append(narrowed, both)
		final = final || m["destinationSubnets"] == nil && m["sourceSubnet"] == nil && len(labels) == len(mapAt(c, "sourceLabels"))
	}
	return narrowed, final
}

// connectionRules gives the VirtualServices of the host that a listener imports,
// in the order in which istiod looks for rules for connections: wildcards are
// not set apart.
func (r *renderer) connectionRules(l listener) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, vs := range r.VirtualServices {
		if isOurs(vs) || !appliesToSidecars(vs) || r.bucketFor(vs, r.callers) == hidden || r.patternFor(vs, r.host) == "" {
			continue
		}
		if len(mapsAt(mapAt(vs.Object, "spec"), "tcp"))+len(mapsAt(mapAt(vs.Object, "spec"), "tls")) == 0 || !l.importsVirtualService(vs.GetNamespace(), r.hostsOf(vs)) {
			continue
		}
		found = append(found, vs)
	}
	slices.SortFunc(found, func(a, b *unstructured.Unstructured) int {
		if x, y := r.bucketFor(a, r.callers), r.bucketFor(b, r.callers); x != y {
			return int(x) - int(y)
		}
		return compareAge(a, b)
	})
	return found
}

// checkConnections refuses callers whose listeners do not find the same rules
// for connections.
func (r *renderer) checkConnections(seen []sight) error {
	for _, other := range seen[1:] {
		if !slices.Equal(r.connectionRules(other.listener), r.connectionRules(seen[0].listener)) && slices.ContainsFunc(r.injections, func(s injection) bool { return s.Fault.Blackhole != nil }) {
			return refuse(DifferentRoutes, "name the callers of each kind, by their labels and the port, in an experiment of its own",
				"the callers in %s do not have the same rules for connections to %s, by their Sidecars", r.callers, r.host)
		}
	}
	return nil
}

// checkOverlap refuses a rule for the target together with other server names.
// The proxy would get two rules for the one name, and Envoy refuses a listener
// with such; istiod leaves the second out only when both have the same names.
func (r *renderer) checkOverlap(vs *unstructured.Unstructured, rule map[string]any, c condition) error {
	for _, m := range mapsAt(rule, "match") {
		names := stringsAt(m, "sniHosts")
		if !slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, r.host) }) || slices.Equal(names, []string{r.host}) {
			continue
		}
		if narrowed, _ := r.narrowConnections(map[string]any{"match": []any{m}}, "tls", c); len(narrowed) > 0 {
			return refuse(OtherServerNames, "give the host a tls rule of its own", "a tls rule of VirtualService %s/%s for %s is for other server names too, and Envoy knows no second one for the same name", vs.GetNamespace(), vs.GetName(), r.host)
		}
	}
	return nil
}
