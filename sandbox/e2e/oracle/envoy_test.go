package oracle_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// view is the route configurations that an Envoy gets, as protobuf's JSON.
type view []m

const faultFilter = "envoy.filters.http.fault"

// parseView reads a view. istiod writes the conditions of a match that come
// from a map in random order, so they are sorted.
func parseView(encoded []byte) (view, error) {
	var v view
	if err := json.Unmarshal(encoded, &v); err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	for _, config := range v {
		for _, host := range items(config["virtualHosts"]) {
			for _, route := range items(host["routes"]) {
				match := mapOf(route["match"])
				for _, field := range []string{"headers", "queryParameters"} {
					if conditions := items(match[field]); len(conditions) > 1 {
						slices.SortFunc(conditions, func(a, b m) int { return cmp.Compare(encode(a), encode(b)) })
						match[field] = anys(conditions)
					}
				}
			}
		}
	}
	return v, nil
}

func encode(value any) string {
	encoded, err := json.Marshal(value)
	if err != nil {
		return err.Error() // nothing of JSON fails to encode
	}
	return string(encoded)
}

func mapOf(value any) m {
	found, _ := value.(m)
	return found
}

func items(value any) []m {
	all, _ := value.([]any)
	var found []m
	for _, item := range all {
		found = append(found, mapOf(item))
	}
	return found
}

func text(value any) string {
	found, _ := value.(string)
	return found
}

// virtualHost is what an Envoy does with the requests to a host on a port.
type virtualHost struct {
	port   int64
	frame  m // everything but the routes
	routes []m
}

// hostRoutes are the virtual hosts of one host, by port.
type hostRoutes []virtualHost

// serves reports whether a virtual host is for a host.
func serves(v m, host string) bool {
	domains, _ := v["domains"].([]any)
	return slices.ContainsFunc(domains, func(domain any) bool {
		name, _, _ := strings.Cut(text(domain), ":")
		return name == host
	})
}

func (v view) routesTo(host string) hostRoutes {
	var found hostRoutes
	for _, config := range v {
		port, err := strconv.ParseInt(text(config["name"]), 10, 64)
		if err != nil {
			continue // not a port's
		}
		for _, candidate := range items(config["virtualHosts"]) {
			if serves(candidate, host) {
				frame := without(candidate, "routes")
				found = append(found, virtualHost{port, frame, items(candidate["routes"])})
			}
		}
	}
	return found
}

// beyond returns the view without the virtual hosts of a host.
func (v view) beyond(host string) view {
	var rest view
	for _, config := range v {
		hosts := slices.DeleteFunc(items(config["virtualHosts"]), func(candidate m) bool { return serves(candidate, host) })
		config = without(config, "virtualHosts")
		config["virtualHosts"] = anys(hosts)
		rest = append(rest, config)
	}
	return rest
}

// without returns a shallow copy without some fields.
func without(from m, fields ...string) m {
	out := m{}
	for key, value := range from {
		if !slices.Contains(fields, key) {
			out[key] = value
		}
	}
	return out
}

// named reports whether the first route everywhere has a name.
func (h hostRoutes) named(name string) bool {
	return len(h) > 0 && !slices.ContainsFunc(h, func(v virtualHost) bool {
		return len(v.routes) == 0 || v.routes[0]["name"] != name
	})
}

// origins returns namespace/name of the VirtualServices that the routes come from; it
// is empty for a default route.
func (v virtualHost) origins() []string {
	var found []string
	for _, route := range v.routes {
		if origin := originOf(route); !slices.Contains(found, origin) {
			found = append(found, origin)
		}
	}
	slices.Sort(found)
	return found
}

var originPath = regexp.MustCompile(`^/apis/networking\.istio\.io/v1/namespaces/([^/]+)/virtual-service/([^/]+)$`)

func originOf(route m) string {
	istio := mapOf(mapOf(mapOf(route["metadata"])["filterMetadata"])["istio"])
	parts := originPath.FindStringSubmatch(text(istio["config"]))
	if parts == nil {
		return ""
	}
	return parts[1] + "/" + parts[2]
}

// plainly returns a route without the fields that a shadow changes: the origin; the name
// of the VirtualService, which istiod adds to the spans of weighted routes; and
// caseSensitive, true by default, which istiod writes for every match.
func plainly(route m) m {
	out := without(route, "metadata", "decorator")
	if mapOf(route["match"])["caseSensitive"] == true {
		out["match"] = without(mapOf(route["match"]), "caseSensitive")
	}
	decorator := mapOf(route["decorator"])
	if operation := text(decorator["operation"]); mapOf(route["route"])["cluster"] == nil {
		_, operation, _ = strings.Cut(operation, ":")
		decorator = m{"operation": operation}
	}
	if decorator != nil {
		out["decorator"] = decorator
	}
	return out
}

func allPlainly(routes []m) []m {
	var out []m
	for _, route := range routes {
		out = append(out, plainly(route))
	}
	return out
}

func faultOf(route m) m { return mapOf(mapOf(route["typedPerFilterConfig"])[faultFilter]) }

func withoutFault(route m) m {
	filters := without(mapOf(route["typedPerFilterConfig"]), faultFilter)
	out := without(route, "typedPerFilterConfig")
	if len(filters) > 0 {
		out["typedPerFilterConfig"] = filters
	}
	return out
}

// action returns what a route does with a request, without the fault. The spans of a
// narrower match have its name, so they are left out.
func action(route m) m {
	return without(withoutFault(plainly(route)), "match", "name", "decorator")
}

// forwards reports whether a route sends requests on, rather than answer them.
func forwards(route m) bool { return mapOf(route["route"]) != nil }

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

// request is what an Envoy sees of a request. Pseudo headers are among the
// headers; path and query are kept apart.
type request struct {
	path    string
	headers map[string]string
	query   map[string]string
}

func (r request) String() string {
	return fmt.Sprintf("%s query %v headers %v", r.path, r.query, r.headers)
}

// allHeaders returns the headers with the one that holds both path and query.
func (r request) allHeaders() map[string]string {
	query := make([]string, 0, len(r.query))
	for _, name := range slices.Sorted(maps.Keys(r.query)) {
		query = append(query, name+"="+r.query[name])
	}
	path := r.path
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	all := maps.Clone(r.headers)
	all[":path"] = path
	return all
}

// first returns the route that an Envoy uses for a request, or nil.
func (v virtualHost) first(r request) (m, error) {
	for _, route := range v.routes {
		takes, err := takesRequest(mapOf(route["match"]), r)
		if err != nil {
			return nil, err
		}
		if takes {
			return route, nil
		}
	}
	return nil, nil
}

// takesRequest evaluates an Envoy RouteMatch. A field that it does not know is
// an error: the check must not pass for want of understanding.
func takesRequest(match m, r request) (bool, error) {
	for field := range match {
		if !slices.Contains([]string{"prefix", "path", "safeRegex", "pathSeparatedPrefix", "caseSensitive", "headers", "queryParameters"}, field) {
			return false, fmt.Errorf("the oracle does not know the match field %s", field)
		}
	}
	if !takesPath(match, r.path) {
		return false, nil
	}
	for _, header := range items(match["headers"]) {
		takes, err := takesHeader(header, r.allHeaders())
		if err != nil || !takes {
			return false, err
		}
	}
	for _, parameter := range items(match["queryParameters"]) {
		value, there := r.query[text(parameter["name"])]
		takes, err := takesValue(parameter, value, there)
		if err != nil || !takes {
			return false, err
		}
	}
	return true, nil
}

func takesPath(match m, path string) bool {
	if expression := text(mapOf(match["safeRegex"])["regex"]); expression != "" {
		return wholly(expression, path)
	}
	fold := func(s string) string { return s }
	if match["caseSensitive"] == false {
		fold = strings.ToLower
	}
	path = fold(path)
	if exact, is := match["path"].(string); is {
		return path == fold(exact)
	}
	if segment, is := match["pathSeparatedPrefix"].(string); is {
		return path == fold(segment) || strings.HasPrefix(path, fold(segment)+"/")
	}
	return strings.HasPrefix(path, fold(text(match["prefix"])))
}

func takesHeader(header m, headers map[string]string) (bool, error) {
	value, there := headers[strings.ToLower(text(header["name"]))]
	if header["presentMatch"] != nil {
		return (there == (header["presentMatch"] == true)) != (header["invertMatch"] == true), nil
	}
	// Envoy: a value cannot be compared when there is none, inverted or not.
	if !there && header["treatMissingHeaderAsEmpty"] != true {
		return false, nil
	}
	takes, err := takesValue(header, value, true)
	return takes != (header["invertMatch"] == true), err
}

// takesValue evaluates the presentMatch or stringMatch of a header or a query
// parameter.
func takesValue(condition m, value string, there bool) (bool, error) {
	if condition["presentMatch"] != nil {
		return there == (condition["presentMatch"] == true), nil
	}
	for kind, wanted := range mapOf(condition["stringMatch"]) {
		switch kind {
		case "exact":
			return there && value == text(wanted), nil
		case "prefix":
			return there && strings.HasPrefix(value, text(wanted)), nil
		case "safeRegex":
			return there && wholly(text(mapOf(wanted)["regex"]), value), nil
		}
	}
	return false, fmt.Errorf("the oracle does not know the condition %v", condition)
}

var compiled sync.Map

// wholly reports whether a regex takes the whole of a text, as Envoy's do.
func wholly(expression, s string) bool {
	re, ok := compiled.Load(expression)
	if !ok {
		re, _ = compiled.LoadOrStore(expression, regexp.MustCompile(`^(?s:`+expression+`)$`))
	}
	return re.(*regexp.Regexp).MatchString(s) //nolint:forcetypeassert // only this function stores
}

// onto returns the faults of a route that had faults before: a fault of another kind is
// kept.
func (e experiment) onto(own m) m {
	if own == nil {
		return e.envoy
	}
	return merged(own, e.envoy)
}

func merged(a, b m) m {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// bothFirst returns the routes that take a request before and during the fault; nil if none
// takes it. The error says that only one of the two has a route for it.
func bothFirst(before, during virtualHost, r request) (was, is m, err error) {
	if was, err = before.first(r); err != nil {
		return nil, nil, err
	}
	is, err = during.first(r)
	switch {
	case err != nil:
		return nil, nil, err
	case was == nil && is != nil:
		return nil, nil, fmt.Errorf("no route took it, now one does: %v", is)
	case was != nil && is == nil:
		return nil, nil, errors.New("no route takes it any more")
	}
	return was, is, nil
}
