package experiments

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/util/validation"
)

// validate reports what a document's values contradict. A field that could not
// be decoded, or that lies around or inside one that could not, is not judged
// again.
func (l *loader) validate(e *Experiment, decoding Problems) {
	v := validator{loader: l, decoding: decoding}
	if e.APIVersion != APIVersion {
		v.report("apiVersion", fmt.Sprintf("must be %s", APIVersion), "")
	}
	if e.Kind != Kind {
		v.report("kind", fmt.Sprintf("must be %s", Kind), "")
	}
	v.dnsLabel("metadata.name", e.Metadata.Name, "give the experiment a name: lower-case letters, digits and dashes")
	v.uniqueName(e.Metadata.Name)
	v.labels("metadata.labels", e.Metadata.Labels)
	v.target("spec.target", e.Spec.Target)
	v.callers("spec.callers", e.Spec.Callers)
	v.matches("spec.match", e.Spec.Match)
	v.positive("spec.duration", e.Spec.Duration, "say how long the fault stays in force, such as 2m")
	v.faults(e.Spec)
	v.steadyState(e.Spec)
	v.stopConditions(e.Spec)
	if e.Spec.Effect.MinRequests < 0 {
		v.report("spec.effect.minRequests", "must not be negative", "0 asks for no proof that the fault hit")
	}
	v.positive("spec.recovery.within", e.Spec.Recovery.Within, "")
	if e.Spec.Schedule != nil {
		v.schedule(*e.Spec.Schedule)
	}
}

type validator struct {
	*loader
	decoding Problems
}

func (v validator) report(path, message, remedy string) {
	if !v.undecoded(path) {
		v.problem(path, message, remedy)
	}
}

// undecoded reports whether a path could not be decoded, or lies around or
// inside one that could not.
func (v validator) undecoded(path string) bool {
	return slices.ContainsFunc(v.decoding, func(p Problem) bool { return within(p.Path, path) || within(path, p.Path) })
}

// within reports whether path is outer or lies inside it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || outer == "" || rest[0] == '.' || rest[0] == '[')
}

func (v validator) dnsLabel(path, value, remedy string) {
	if value == "" {
		v.report(path, "is missing", remedy)
		return
	}
	for _, message := range validation.IsDNS1123Label(value) {
		v.report(path, fmt.Sprintf("%q is not a name: %s", value, rule(message)), "")
	}
}

// uniqueName refuses two experiments of one name in a file: a report, a lock
// and a schedule all know an experiment by it.
func (v validator) uniqueName(name string) {
	node, ok := v.positions["metadata.name"]
	if !ok || name == "" {
		return
	}
	if first, twice := v.names[name]; twice {
		v.report("metadata.name", fmt.Sprintf("another experiment is named %q, on line %d", name, first), "rename one")
		return
	}
	v.names[name] = node.Line
}

func (v validator) labels(path string, labels map[string]string) {
	for key, value := range labels {
		for _, message := range validation.IsQualifiedName(key) {
			v.report(child(path, key), "is not a label key: "+rule(message), "")
		}
		for _, message := range validation.IsValidLabelValue(value) {
			v.report(child(path, key), fmt.Sprintf("%q is not a label value: %s", value, rule(message)), "")
		}
	}
}

// rule shortens a message of Kubernetes' validation to the rule that it
// states.
func rule(message string) string {
	message, _, _ = strings.Cut(message, " (e.g.")
	return message
}

func (v validator) positive(path string, d Duration, remedy string) {
	switch {
	case d.Duration == 0 && v.node(path) == nil:
		v.report(path, "is missing", remedy)
	case d.Duration <= 0:
		v.report(path, fmt.Sprintf("%s is not a length of time", d), "")
	}
}

// notZero reports a duration that is written and is no time; an omitted one
// means something else.
func (v validator) notZero(path string, d Duration) {
	if d.Duration < 0 || d.Duration == 0 && v.node(path) != nil {
		v.report(path, fmt.Sprintf("%s is not a length of time", d), "")
	}
}

func (v validator) notNegative(path string, d Duration) {
	if d.Duration < 0 {
		v.report(path, fmt.Sprintf("%s is not a length of time", d), "")
	}
}

func (v validator) oneOf(path, value string, known ...string) {
	if !slices.Contains(known, value) {
		message := fmt.Sprintf("%q is not known", value)
		if value == "" {
			message = "is missing"
		}
		v.report(path, message, "write "+strings.Join(known[:len(known)-1], ", ")+" or "+known[len(known)-1])
	}
}

// numericEnd is a host whose last label is a number
// (istio.io/istio/pkg/config/validation, ValidateFQDN).
var numericEnd = regexp.MustCompile(`\.[0-9]+$`)

func (v validator) target(path string, t Target) {
	host := path + ".host"
	switch _, err := netip.ParseAddr(t.Host); {
	case t.Host == "":
		v.report(host, "is missing", "name the host whose calls are disturbed, such as ratings.prod.svc.cluster.local")
	case strings.HasPrefix(t.Host, "*"):
		v.report(host, fmt.Sprintf("%q is a wildcard", t.Host), "name one host; a shadow is made for exactly one")
	case err == nil:
		// An IP address is a host name to Istio.
	case numericEnd.MatchString(t.Host):
		v.report(host, fmt.Sprintf("%q ends like an IP address, which Istio refuses", t.Host), "write a whole IP address or a host name")
	default:
		for _, message := range validation.IsDNS1123Subdomain(t.Host) {
			v.report(host, fmt.Sprintf("%q is not a host name: %s", t.Host, rule(message)), "")
		}
	}
	if t.Namespace != "" {
		v.dnsLabel(path+".namespace", t.Namespace, "")
		if parts := strings.Split(t.Host, "."); len(parts) > 1 && parts[1] != t.Namespace {
			v.report(path+".namespace", fmt.Sprintf("%s is not the namespace in %s", t.Namespace, t.Host), "namespace goes with a short host; remove it, or write the short name")
		}
	} else if t.Host != "" && !strings.Contains(t.Host, ".") {
		v.report(host, fmt.Sprintf("%q is a short name, and there is no namespace", t.Host), fmt.Sprintf("add namespace beside it, or write %s.NAMESPACE.svc.cluster.local", t.Host))
	}
	if t.Port < 0 || t.Port > 65535 || t.Port == 0 && v.positions[path+".port"] != nil {
		v.report(path+".port", fmt.Sprintf("%d is not a port", t.Port), "1 to 65535, or leave it out for all ports")
	}
	if t.Subset != "" {
		v.dnsLabel(path+".subset", t.Subset, "")
	}
}

// maxItems bounds lists that are compared or combined with each other.
const maxItems = 64

// list reports a list that is empty, which might be meant as nothing and would
// mean everything, or too long.
func (v validator) list(path string, length int) {
	if length == 0 && v.node(path) != nil {
		v.report(path, "is empty", "remove it, or name at least one")
	}
	if length > maxItems {
		v.report(path, fmt.Sprintf("has %d items; Squall takes at most %d", length, maxItems), "")
	}
}

func (v validator) callers(path string, callers []Caller) {
	v.list(path, len(callers))
	for i, caller := range callers {
		at := fmt.Sprintf("%s[%d]", path, i)
		v.dnsLabel(at+".namespace", caller.Namespace, "name the namespace of the callers")
		v.labels(at+".labels", caller.Labels)
		if caller.Labels != nil && len(caller.Labels) == 0 {
			v.report(at+".labels", "is empty", "remove it for every workload of the namespace, or name a label")
		}
	}
}

// headerName is an HTTP token as a header name must be, in lower case because
// Istio compares with HTTP/2's lower-case names.
var headerName = regexp.MustCompile("^[a-z0-9!#$%&'*+.^_`|~-]+$")

func (v validator) matches(path string, matches []Match) {
	v.list(path, len(matches))
	for i, match := range matches {
		v.match(fmt.Sprintf("%s[%d]", path, i), match)
	}
}

func (v validator) match(path string, m Match) {
	conditions := 0
	for name, value := range map[string]*StringMatch{"uri": m.URI, "scheme": m.Scheme, "method": m.Method, "authority": m.Authority} {
		if value != nil {
			conditions++
			v.stringMatch(child(path, name), *value, false)
		}
	}
	for field, headers := range map[string]map[string]StringMatch{"headers": m.Headers, "withoutHeaders": m.WithoutHeaders} {
		for name, value := range headers {
			conditions++
			at := child(child(path, field), name)
			if !headerName.MatchString(name) {
				remedy := "letters, digits and dashes; for pseudo headers write uri, method, scheme or authority"
				if lower := strings.ToLower(name); headerName.MatchString(lower) {
					remedy = "write " + lower
				}
				v.report(at, "is not a header name in lower case", remedy)
			}
			v.stringMatch(at, value, true)
		}
	}
	for name, value := range m.QueryParams {
		conditions++
		v.stringMatch(child(path+".queryParams", name), value, false)
	}
	if conditions == 0 {
		v.report(path, "has no condition", "an empty match takes every request; remove it, or name a header, uri or method")
	}
	if m.IgnoreURICase && (m.URI == nil || m.URI.Regex != nil) {
		v.report(path+".ignoreUriCase", "goes with a uri that is exact or prefix", "a regex can begin with (?i)")
	}
}

// stringMatch reports a match with more or fewer than one condition. Only a
// header may have none: then it must be there, with any value.
func (v validator) stringMatch(path string, m StringMatch, presence bool) {
	set := 0
	for _, value := range []*string{m.Exact, m.Prefix, m.Regex} {
		if value != nil {
			set++
		}
	}
	switch {
	case set > 1 || set == 0 && !presence:
		v.report(path, "must have exactly one of exact, prefix and regex", "")
	case m.Prefix != nil && *m.Prefix == "":
		remedy := "leave the condition out to take any value"
		if presence {
			remedy = "to ask only that the header is there, write {}"
		}
		v.report(path+".prefix", "is empty", remedy)
	case m.Regex != nil:
		v.regex(path+".regex", *m.Regex)
	}
}

// maxRegexLength is how long a regex may be in Istio's validation.
const maxRegexLength = 1024

func (v validator) regex(path, expression string) {
	switch _, err := regexp.Compile(expression); {
	case expression == "":
		v.report(path, "is empty", "")
	case len(expression) > maxRegexLength:
		v.report(path, fmt.Sprintf("is %d bytes long; Istio takes at most %d", len(expression), maxRegexLength), "")
	case err != nil:
		v.report(path, "is not an RE2 regex: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "")
	}
}

// sortedKeys gives a map's keys in order, so that problems come in the same
// order each time.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// node gives the node at a path of the document, if it is there.
func (v validator) node(path string) *yaml.Node { return v.positions[path] }
