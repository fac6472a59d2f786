package steadystate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/experiments"
)

// Alerts is the state of a server's alerting rules that can fire alerts with
// some labels.
type Alerts struct {
	// Rules is the number of such rules.
	Rules int
	// Firing has the names of the firing alerts.
	Firing []string
	// Broken has the rules that cannot be evaluated, each with its error.
	Broken []string
}

// ErrNoRules is the error for a server that does not serve its rules.
var ErrNoRules = errors.New("the server does not serve its alerting rules")

// An AlertSource reads alerting rules. The error is ErrNoRules if the server does
// not serve them.
type AlertSource interface {
	Alerts(ctx context.Context, labels map[string]string) (Alerts, error)
}

// judgeAlerts judges a condition on alerts by the series ALERTS and by the rules.
// Rules that are evaluated elsewhere have only the series; a server without
// remote storage may update the rules earlier. The absence of alerts is a result
// only if a rule could fire and can be evaluated.
func judgeAlerts(probe experiments.Probe, samples []Sample, err error, rules Alerts, rulesErr error) Measurement {
	switch {
	case err != nil || errors.Is(rulesErr, ErrNoRules):
		return judge(probe, samples, err)
	case rulesErr != nil:
		return judge(probe, nil, fmt.Errorf("alerting rules: %w", rulesErr))
	}
	m := judge(probe, samples, nil)
	switch quiet := m.Value != nil && *m.Value == 0; {
	case len(rules.Firing) > 0:
		value := float64(len(rules.Firing))
		if m.Value != nil {
			value = max(value, *m.Value)
		}
		m.Value, m.Verdict = &value, Deviated
		m.Reason = fmt.Sprintf("%s firing: %s", FormatValue(value), strings.Join(rules.Firing, ", "))
	case quiet && len(rules.Broken) > 0:
		return judge(probe, nil, errors.New("a rule cannot be evaluated: "+strings.Join(rules.Broken, "; ")))
	case quiet && rules.Rules == 0:
		m = judge(probe, nil, nil)
		m.Reason = "no alerting rule fires alerts with " + labelsInWords(probe.Alerts)
	}
	return m
}

func labelsInWords(labels map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		words = append(words, fmt.Sprintf("%s=%q", name, labels[name]))
	}
	return strings.Join(words, ", ")
}
