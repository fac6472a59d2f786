package mesh

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// renderConnections gives an object its tcp and tls routes: those of the base,
// and before them those that blackholes need.
//
// For connections istiod goes through all VirtualServices of the host and takes
// the first rule that is for the proxy and the port
// (istio.io/istio/pilot/pkg/networking/core, buildSidecarOutboundTCPFilterChainOpts
// and buildSidecarOutboundTLSFilterChainOpts). So an object that is narrowed to
// some callers needs no copy of the others' rules.
func (r *renderer) renderConnections(spec map[string]any, active []strike) error {
	if len(r.guard()) > 0 && (r.base == nil || !r.base.wildcard()) {
		delete(spec, "tcp")
		delete(spec, "tls")
	} else if err := r.checkServerNames(spec); err != nil {
		return err
	}
	var tcp, tls []any
	for _, s := range active {
		if s.Blackhole == nil {
			continue
		}
		for _, port := range r.blackholes.portsOf(s) {
			for _, c := range requestless(s, port) {
				var err error
				switch {
				case port.hasTCPRoutes():
					tcp, err = r.divertConnections(tcp, "tcp", s, c)
				case port.speaks() == speaksTLS:
					tls, err = r.divertConnections(tls, "tls", s, c)
				}
				if err != nil {
					return err
				}
			}
		}
	}
	for field, diverted := range map[string][]any{"tcp": tcp, "tls": tls} {
		if len(diverted) > 0 {
			own, _ := spec[field].([]any)
			spec[field] = append(diverted, own...)
		}
	}
	return nil
}

// requestless gives the conditions of a strike on the connections to a port;
// those that look at requests cannot be met by one.
func requestless(s strike, port Port) []condition {
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

// divertConnections adds the rules that divert connections which meet c: a
// narrowed copy of each rule that is in force for them.
func (r *renderer) divertConnections(rules []any, protocol string, s strike, c condition) ([]any, error) {
	for _, vs := range r.connectionRules() {
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
			diverted, err := r.divertRule(rule, s)
			if err != nil {
				return nil, err
			}
			rules = append(rules, diverted)
			if final {
				return rules, nil
			}
		}
	}
	match := runtime.DeepCopyJSON(c)
	if protocol == "tls" {
		match["sniHosts"] = []any{r.host}
	}
	diverted, err := r.divertRule(map[string]any{
		"match": []any{match},
		"route": []any{map[string]any{"destination": map[string]any{"host": r.host, "port": map[string]any{"number": c["port"]}}}},
	}, s)
	return append(rules, diverted), err
}

func (r *renderer) divertRule(rule map[string]any, s strike) (map[string]any, error) {
	r.traceStrike(s, rule)
	return rule, r.blackholes.divert(rule, []strike{s}, r.isTarget)
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

// connectionRules gives the VirtualServices of the host in the order in which
// istiod looks for rules for connections: wildcards are not set apart.
func (r *renderer) connectionRules() []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, vs := range r.VirtualServices {
		if isOurs(vs) || !appliesToSidecars(vs) || r.bucketFor(vs, r.callers) == hidden || r.patternFor(vs, r.host) == "" {
			continue
		}
		if !r.importsVirtualService(vs.GetNamespace(), r.hostsOf(vs)) {
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

// checkServerNames refuses a base whose tls routes name other hosts: Istio
// wants every server name to be among the object's hosts, and the shadow has
// only one. The host is written as the shadow writes it: here its case counts.
func (r *renderer) checkServerNames(spec map[string]any) error {
	for _, route := range mapsAt(spec, "tls") {
		for _, match := range mapsAt(route, "match") {
			names, _ := match["sniHosts"].([]any)
			for i, name := range names {
				if text, _ := name.(string); !strings.EqualFold(text, r.host) {
					return refuse(OtherServerNames, "give the host a VirtualService of its own, or name the callers' labels", "tls routes of VirtualService %s name %v beside %s", r.name(), name, r.host)
				}
				names[i] = r.host
			}
		}
	}
	return nil
}
