package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/squall-chaos/squall/internal/promql"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// prometheus scrapes the proxies and answers queries.
type prometheus struct {
	world    *world
	interval time.Duration
	// offset is its clock minus the world's.
	offset time.Duration
	// behind is how old its answers are, as a replica that is behind answers.
	behind time.Duration
	// blind is the probability that a scrape fails.
	blind float64
	// repeats is true while a cache repeats the first answer to each query.
	repeats bool
	cached  map[string][]steadystate.Sample
	// partial is true while answers lack some series.
	partial bool
	series  map[string]*series
	keys    []string // of series, in order
	weather weather
}

type series struct {
	labels  map[string]string
	samples []sample
}

type sample struct {
	at    time.Time
	value float64 // NaN after a scrape that has failed
}

// scrape reads the counters of a proxy now and then repeatedly.
func (m *prometheus) scrape(p *proxy) {
	if m.world.over {
		return
	}
	m.world.in(m.interval, func() { m.scrape(p) })
	if m.world.trouble && m.world.chance(m.blind) {
		for _, s := range m.series {
			if s.labels["source_workload"] == p.app && s.labels["source_workload_namespace"] == p.namespace {
				s.samples = append(s.samples, sample{at: time.Now(), value: math.NaN()})
			}
		}
		return
	}
	m.world.count(p)
	for key, c := range p.counters {
		m.store(p.namespace+"/"+p.app+" "+key, c.labels, c.value)
	}
}

// scrapeHealth reads what the hypothesis is about.
func (m *prometheus) scrapeHealth() {
	if m.world.over {
		return
	}
	m.world.in(m.interval, m.scrapeHealth)
	value := 1.0
	if m.world.sick {
		value = 0
	}
	m.store("health", map[string]string{"__name__": "health"}, value)
}

func (m *prometheus) store(key string, labels map[string]string, value float64) {
	s := m.series[key]
	if s == nil {
		s = &series{labels: labels}
		m.series[key] = s
		at, _ := slices.BinarySearch(m.keys, key)
		m.keys = slices.Insert(m.keys, at, key)
	}
	s.samples = append(s.samples, sample{at: time.Now(), value: value})
}

// querier is a process's way to Prometheus.
type querier struct{ *process }

var errUnavailable = errors.New("query: 503 Service Unavailable")

// Query implements steadystate.Querier.
func (q querier) Query(ctx context.Context, query string) ([]steadystate.Sample, error) {
	m := q.world.prometheus
	c := &call{key: "query " + query, from: q.process, ctx: ctx, arrive: func(c *call) {
		q.world.pass(c, "query "+kindOf(query), &m.weather, func() any { return m.answer(query) }, func(fate) any { return fail{errUnavailable} })
	}}
	answer, err := q.world.enter(c)
	if err != nil {
		return nil, err
	}
	if failed, is := answer.(fail); is {
		return nil, failed.err
	}
	samples, _ := answer.([]steadystate.Sample)
	return samples, nil
}

func kindOf(query string) string {
	switch {
	case query == "time()":
		return "clock"
	case strings.Contains(query, "istio_"):
		return "counters"
	default:
		return "probe"
	}
}

// answer evaluates a query at Prometheus' time.
func (m *prometheus) answer(query string) []steadystate.Sample {
	if m.repeats && m.cached[query] != nil {
		return m.cached[query]
	}
	at := time.Now().Add(-m.behind)
	e := evaluator{prometheus: m, at: at}
	var samples []steadystate.Sample
	for _, v := range e.eval(parsed(query)) {
		if m.partial && len(v.labels) > 0 && m.world.chance(0.3) {
			continue
		}
		samples = append(samples, steadystate.Sample{Labels: v.labels, Value: v.value, Time: at.Add(m.offset)})
	}
	m.cached[query] = samples
	return samples
}

// queries are parsed queries.
var queries = map[string]parser.Expr{}

func parsed(query string) parser.Expr {
	if e, known := queries[query]; known {
		return e
	}
	e, err := promql.Parse(query)
	if err != nil {
		panic(query + ": " + err.Error())
	}
	queries[query] = e
	return e
}

// evaluator evaluates the few forms of PromQL that runs of a simulation send.
type evaluator struct {
	*prometheus
	at time.Time
}

type value struct {
	labels map[string]string
	value  float64
}

const lookback = 5 * time.Minute

func (e evaluator) eval(expr parser.Expr) []value {
	switch x := expr.(type) {
	case *parser.ParenExpr:
		return e.eval(x.Expr)
	case *parser.StepInvariantExpr:
		return e.eval(x.Expr)
	case *parser.NumberLiteral:
		return []value{{value: x.Val}}
	case *parser.VectorSelector:
		var all []value
		for _, s := range e.selected(x) {
			if last, ok := s.last(e.at, lookback, false); ok {
				all = append(all, value{labels: s.labels, value: last.value})
			}
		}
		return all
	case *parser.Call:
		return e.call(x)
	case *parser.AggregateExpr:
		return aggregate(x, e.eval(x.Expr))
	case *parser.BinaryExpr:
		return operate(x.Op, e.eval(x.LHS), e.eval(x.RHS))
	default:
		panic(fmt.Sprintf("the simulation cannot evaluate %s", expr))
	}
}

// selected returns the series of a selector, in order.
func (e evaluator) selected(selector *parser.VectorSelector) []*series {
	var found []*series
	for _, key := range e.keys {
		s := e.series[key]
		matches := true
		for _, m := range selector.LabelMatchers {
			matches = matches && m.Matches(s.labels[m.Name])
		}
		if matches {
			found = append(found, s)
		}
	}
	return found
}

// last returns the last sample up to a time. A failed scrape hides those before it,
// unless past is true.
func (s *series) last(at time.Time, window time.Duration, past bool) (sample, bool) {
	i := sort.Search(len(s.samples), func(i int) bool { return s.samples[i].at.After(at) })
	for i--; i >= 0 && at.Sub(s.samples[i].at) < window; i-- {
		if !math.IsNaN(s.samples[i].value) {
			return s.samples[i], true
		}
		if !past {
			break
		}
	}
	return sample{}, false
}

// call evaluates a function.
func (e evaluator) call(x *parser.Call) []value {
	switch x.Func.Name {
	case "time":
		return []value{{value: e.seconds(e.at)}}
	case "vector", "scalar":
		return e.eval(x.Args[0])
	case "timestamp":
		selector, _ := x.Args[0].(*parser.VectorSelector)
		var all []value
		for _, s := range e.selected(selector) {
			if last, ok := s.last(e.at, lookback, false); ok {
				all = append(all, value{labels: s.labels, value: e.seconds(last.at)}.unnamed())
			}
		}
		return all
	case "label_replace":
		return labelReplace(x, e.eval(x.Args[0]))
	case "last_over_time", "rate", "increase", "resets", "changes":
		matrix, _ := x.Args[0].(*parser.MatrixSelector)
		selector, _ := matrix.VectorSelector.(*parser.VectorSelector)
		var all []value
		for _, s := range e.selected(selector) {
			if v, ok := overTime(x.Func.Name, s, e.at, matrix.Range); ok {
				all = append(all, v)
			}
		}
		return all
	default:
		panic("the simulation cannot evaluate " + x.Func.Name)
	}
}

// seconds returns a time on Prometheus' clock.
func (e evaluator) seconds(at time.Time) float64 {
	return float64(at.Add(e.offset).UnixMicro()) / 1e6
}

func (v value) unnamed() value {
	v.labels = maps.Clone(v.labels)
	delete(v.labels, "__name__")
	return v
}

func overTime(function string, s *series, at time.Time, window time.Duration) (value, bool) {
	last, ok := s.last(at, window, true)
	if !ok {
		return value{}, false
	}
	if function == "last_over_time" {
		return value{labels: s.labels, value: last.value}, true
	}
	first, before, grown := sample{}, 0.0, 0.0
	n := 0
	for _, one := range s.samples {
		if one.at.After(at) || at.Sub(one.at) >= window || math.IsNaN(one.value) {
			continue
		}
		if n > 0 {
			if one.value < before {
				before = 0
			}
			grown += one.value - before
		} else {
			first = one
		}
		before = one.value
		n++
	}
	if n < 2 {
		return value{}, false
	}
	perSecond := grown / last.at.Sub(first.at).Seconds()
	if function == "increase" {
		perSecond *= window.Seconds()
	}
	return value{labels: s.labels, value: perSecond}.unnamed(), true
}

func labelReplace(x *parser.Call, all []value) []value {
	text := func(i int) string { return x.Args[i].(*parser.StringLiteral).Val } //nolint:forcetypeassert // the parser has checked it
	pattern := regexp.MustCompile("^(?s:" + text(4) + ")$")
	for i, v := range all {
		source := v.labels[text(3)]
		if indexes := pattern.FindStringSubmatchIndex(source); indexes != nil {
			labels := maps.Clone(v.labels)
			if labels == nil {
				labels = map[string]string{}
			}
			labels[text(1)] = string(pattern.ExpandString(nil, text(2), source, indexes))
			all[i].labels = labels
		}
	}
	return all
}

func aggregate(x *parser.AggregateExpr, all []value) []value {
	groups := map[string]*value{}
	for _, v := range all {
		labels := map[string]string{}
		for name, text := range v.labels {
			if name != "__name__" && slices.Contains(x.Grouping, name) != x.Without {
				labels[name] = text
			}
		}
		key := fmt.Sprint(labels)
		group, known := groups[key]
		if !known {
			group = &value{labels: labels, value: v.value}
			groups[key] = group
		}
		switch {
		case x.Op == parser.GROUP:
			group.value = 1
		case x.Op == parser.COUNT && !known:
			group.value = 1
		case x.Op == parser.COUNT:
			group.value++
		case !known:
		case x.Op == parser.SUM:
			group.value += v.value
		case x.Op == parser.MIN:
			group.value = min(group.value, v.value)
		case x.Op == parser.MAX:
			group.value = max(group.value, v.value)
		default:
			panic("the simulation cannot evaluate " + x.Op.String())
		}
	}
	var found []value
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		found = append(found, *groups[key])
	}
	return found
}

// operate evaluates the set operators, and arithmetic and comparisons with a scalar
// or between single series.
func operate(op parser.ItemType, left, right []value) []value {
	key := func(v value) string { return fmt.Sprint(v.unnamed().labels) }
	known := map[string]float64{}
	for _, v := range right {
		known[key(v)] = v.value
	}
	switch op {
	case parser.LOR:
		known = map[string]float64{}
		for _, v := range left {
			known[key(v)] = v.value
		}
		for _, v := range right {
			if _, has := known[key(v)]; !has {
				left = append(left, v)
			}
		}
		return left
	case parser.LAND, parser.LUNLESS:
		return slices.DeleteFunc(left, func(v value) bool {
			_, has := known[key(v)]
			return has != (op == parser.LAND)
		})
	}
	var found []value
	for _, v := range left {
		other, has := known[key(v)]
		if !has && len(right) == 1 {
			other, has = right[0].value, true
		}
		if !has {
			continue
		}
		if op.IsComparisonOperator() {
			if compare(op, v.value, other) {
				found = append(found, v)
			}
			continue
		}
		v = v.unnamed()
		v.value = arithmetic(op, v.value, other)
		found = append(found, v)
	}
	return found
}

func compare(op parser.ItemType, a, b float64) bool {
	switch op {
	case parser.GTR:
		return a > b
	case parser.GTE:
		return a >= b
	case parser.LSS:
		return a < b
	case parser.LTE:
		return a <= b
	case parser.EQLC:
		return a == b
	default:
		return a != b
	}
}

func arithmetic(op parser.ItemType, a, b float64) float64 {
	switch op {
	case parser.ADD:
		return a + b
	case parser.SUB:
		return a - b
	case parser.MUL:
		return a * b
	case parser.DIV:
		return a / b
	default:
		panic("the simulation cannot evaluate " + op.String())
	}
}
