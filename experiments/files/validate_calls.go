package files

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/strictyaml"
)

// numericEnd matches a host whose last label is a number
// (istio.io/istio/pkg/config/validation, ValidateFQDN).
var numericEnd = regexp.MustCompile(`\.[0-9]+$`)

func checkTarget(v validator, path string, t experiments.Target) {
	host := path + ".host"
	address, isURL := strings.CutPrefix(t.Host[strings.Index(t.Host, ":")+1:], "//")
	name, port, hasPort := strings.Cut(t.Host, ":")
	switch _, err := netip.ParseAddr(t.Host); {
	case t.Host == "":
		v.report(host, "is missing", "name the host whose calls are disturbed, such as ratings.prod.svc.cluster.local")
	case strings.HasPrefix(t.Host, "*"):
		v.report(host, fmt.Sprintf("%q is a wildcard", t.Host), "name one host; an experiment has exactly one target")
	case err == nil:
		// An IP address is a host name to Istio.
	case isURL:
		v.report(host, fmt.Sprintf("%q is a URL", t.Host), urlRemedy(address))
	case hasPort:
		v.report(host, fmt.Sprintf("%q has a port", t.Host), portRemedy(name, port))
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
			v.report(path+".namespace", fmt.Sprintf("%s is not the namespace in %s", t.Namespace, t.Host), "namespace is for short hosts; remove it, or write the short name")
		}
	} else if t.Host != "" && !strings.Contains(t.Host, ".") {
		v.report(host, fmt.Sprintf("%q is a short name, and there is no namespace", t.Host), fmt.Sprintf("add namespace, or write %s.NAMESPACE.svc.cluster.local", t.Host))
	}
	if t.Port < 0 || t.Port > 65535 || t.Port == 0 && v.in.Node(path+".port") != nil {
		v.report(path+".port", fmt.Sprintf("%d is not a port", t.Port), "1 to 65535, or leave it out for all ports")
	}
	if t.Subset != "" {
		v.dnsLabel(path+".subset", t.Subset, "")
	}
}

// urlRemedy returns how to write the host of a URL without its scheme.
func urlRemedy(address string) string {
	address, _, _ = strings.Cut(address, "/")
	if name, port, hasPort := strings.Cut(address, ":"); hasPort {
		return portRemedy(name, port)
	}
	return "write " + address
}

// portRemedy returns how to write a host and a port that were written as one.
func portRemedy(host, port string) string {
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "write the port in target.port"
	}
	return fmt.Sprintf("write target: {host: %s, port: %s}", host, port)
}

// maxItems is the longest list whose items are compared or combined with each other.
const maxItems = 64

// list reports a list that is too long, or empty: an empty list would mean everything,
// and the author may mean nothing.
func (v validator) list(path string, length int) {
	if length == 0 && v.in.Node(path) != nil {
		v.report(path, "is empty", "remove it, or name at least one")
	}
	if length > maxItems {
		v.report(path, fmt.Sprintf("has %d items; Squall takes at most %d", length, maxItems), "")
	}
}

func checkCallers(v validator, path string, callers []experiments.Caller) {
	v.list(path, len(callers))
	for i, caller := range callers {
		at := fmt.Sprintf("%s[%d]", path, i)
		if caller.Gateway != nil {
			checkGateway(v, at, caller)
			continue
		}
		v.dnsLabel(at+".namespace", caller.Namespace, "name the namespace of the callers")
		v.labels(at+".labels", caller.Labels)
		if caller.Labels != nil && len(caller.Labels) == 0 {
			v.report(at+".labels", "is empty", "remove it for every workload of the namespace, or name a label")
		}
	}
}

// checkGateway reports what is wrong with callers that are the pods of a gateway.
func checkGateway(v validator, path string, c experiments.Caller) {
	at := path + ".gateway"
	for field, set := range map[string]bool{".namespace": c.Namespace != "", ".labels": c.Labels != nil} {
		if set {
			v.report(path+field, "is beside gateway", "write it inside gateway, or name the workloads in a caller without gateway")
		}
	}
	v.dnsLabel(at+".namespace", c.Gateway.Namespace, "name the namespace of the gateway's pods, such as istio-ingress")
	v.labels(at+".labels", c.Gateway.Labels)
	switch remedy := "name labels of the gateway's pods, as in the selector of the Gateway, such as {istio: ingressgateway}"; {
	case c.Gateway.Labels == nil:
		v.report(at+".labels", "is missing", remedy)
	case len(c.Gateway.Labels) == 0:
		v.report(at+".labels", "is empty", remedy)
	}
}

// headerName matches an HTTP token in lower case: Istio compares header names with
// the lower-case names of HTTP/2.
var headerName = regexp.MustCompile("^[a-z0-9!#$%&'*+.^_`|~-]+$")

func checkMatches(v validator, path string, matches []experiments.Match) {
	v.list(path, len(matches))
	for i, match := range matches {
		checkMatch(v, fmt.Sprintf("%s[%d]", path, i), match)
	}
}

func checkMatch(v validator, path string, m experiments.Match) {
	conditions := 0
	for name, value := range map[string]*experiments.StringMatch{"uri": m.URI, "scheme": m.Scheme, "method": m.Method, "authority": m.Authority} {
		if value != nil {
			conditions++
			checkStringMatch(v, strictyaml.Child(path, name), *value, false)
		}
	}
	for field, headers := range map[string]map[string]experiments.StringMatch{"headers": m.Headers, "withoutHeaders": m.WithoutHeaders} {
		for name, value := range headers {
			conditions++
			at := strictyaml.Child(strictyaml.Child(path, field), name)
			if !headerName.MatchString(name) {
				remedy := "letters, digits and dashes; for pseudo headers write uri, method, scheme or authority"
				if lower := strings.ToLower(name); headerName.MatchString(lower) {
					remedy = "write " + lower
				}
				v.report(at, "is not a header name in lower case", remedy)
			}
			checkStringMatch(v, at, value, true)
		}
	}
	for name, value := range m.QueryParams {
		conditions++
		checkStringMatch(v, strictyaml.Child(path+".queryParams", name), value, false)
	}
	if conditions == 0 {
		v.report(path, "has no condition", "an empty match matches every request; remove it, or name a header, uri or method")
	}
	if m.IgnoreURICase && (m.URI == nil || m.URI.Regex != nil) {
		v.report(path+".ignoreUriCase", "needs a uri that is exact or prefix", "a regex can begin with (?i)")
	}
}

// checkStringMatch reports a match that does not have exactly one condition. A header may
// have none, which requires it with any value.
func checkStringMatch(v validator, path string, m experiments.StringMatch, presence bool) {
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
		remedy := "remove the condition to match any value"
		if presence {
			remedy = "to require only that the header exists, write {}"
		}
		v.report(path+".prefix", "is empty", remedy)
	case m.Regex != nil:
		checkRegex(v, path+".regex", *m.Regex)
	}
}

// maxRegexLength is the length of the longest regex that Istio accepts.
const maxRegexLength = 1024

func checkRegex(v validator, path, expression string) {
	switch _, err := regexp.Compile(expression); {
	case expression == "":
		v.report(path, "is empty", "")
	case len(expression) > maxRegexLength:
		v.report(path, fmt.Sprintf("is %d bytes long; Istio takes at most %d", len(expression), maxRegexLength), "")
	case err != nil:
		v.report(path, "is not an RE2 regex: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "")
	}
}
