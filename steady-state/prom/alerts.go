package prom

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	steadystate "github.com/squall-chaos/squall/steady-state"
)

var _ steadystate.AlertSource = (*Client)(nil)

// Alerts reads the server's alerting rules that can fire alerts with all of the
// labels. The error is steadystate.ErrNoRules if the server does not have the
// API, or does not permit its use.
func (c *Client) Alerts(ctx context.Context, labels map[string]string) (steadystate.Alerts, error) {
	result, err := twice(ctx, func() (promv1.RulesResult, error) { return c.api.Rules(ctx) })
	if err != nil && unavailable(err) {
		return steadystate.Alerts{}, steadystate.ErrNoRules
	}
	if err != nil {
		return steadystate.Alerts{}, c.explain(ctx, err)
	}
	var all steadystate.Alerts
	for _, group := range result.Groups {
		for _, rule := range group.Rules {
			if alerting, is := rule.(promv1.AlertingRule); is && mayFire(alerting, labels) {
				add(&all, alerting, labels)
			}
		}
	}
	return all, nil
}

// unavailable reports whether an error means that the rules API cannot be used.
func unavailable(err error) bool {
	var failure *promv1.Error
	if !errors.As(err, &failure) {
		return false
	}
	for _, code := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		if strings.HasSuffix(failure.Msg, fmt.Sprintf(": %d", code)) {
			return true
		}
	}
	return failure.Type == promv1.ErrBadResponse
}

// mayFire reports whether a rule could fire an alert with the labels. Labels that
// the rule does not set may come from its series.
func mayFire(rule promv1.AlertingRule, labels map[string]string) bool {
	for name, value := range labels {
		own, set := rule.Labels[model.LabelName(name)]
		if name == model.AlertNameLabel {
			own, set = model.LabelValue(rule.Name), true
		}
		if set && string(own) != value && !strings.Contains(string(own), "{{") {
			return false
		}
	}
	return true
}

// add adds a rule and its firing alerts.
func add(all *steadystate.Alerts, rule promv1.AlertingRule, labels map[string]string) {
	all.Rules++
	switch rule.Health {
	case promv1.RuleHealthBad:
		all.Broken = append(all.Broken, rule.Name+": "+short(rule.LastError))
	case promv1.RuleHealthUnknown:
		all.Broken = append(all.Broken, rule.Name+": it has not been evaluated yet")
	case promv1.RuleHealthGood:
	}
	for _, alert := range rule.Alerts {
		if alert.State == promv1.AlertStateFiring && has(alert.Labels, labels) {
			all.Firing = append(all.Firing, rule.Name)
		}
	}
}

func has(labels model.LabelSet, wanted map[string]string) bool {
	for name, value := range wanted {
		if string(labels[model.LabelName(name)]) != value {
			return false
		}
	}
	return true
}
