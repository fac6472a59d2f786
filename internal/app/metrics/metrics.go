// Package metrics has the Prometheus metrics of `squall serve`.
//
// Its methods record what happened. They decide nothing, and only Started reads
// the clock.
package metrics

import (
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Metrics are the metrics of one process. All methods are safe for concurrent
// use.
type Metrics struct {
	registry *prometheus.Registry

	runs        *prometheus.CounterVec
	duration    prometheus.Histogram
	liveRuns    prometheus.Gauge
	liveFaults  prometheus.Gauge
	objectsLeft prometheus.Counter

	nextStart *prometheus.GaugeVec
	lastStart *prometheus.GaugeVec
	lag       prometheus.Histogram
	skipped   *prometheus.CounterVec

	sweeps *prometheus.CounterVec
	swept  prometheus.Counter

	experiments   prometheus.Gauge
	brokenFiles   prometheus.Gauge
	reloadWorked  prometheus.Gauge
	reloadedAt    prometheus.Gauge
	leader        prometheus.Gauge
	paused        prometheus.Gauge
	notifications *prometheus.CounterVec

	seen sync.Map // the experiments whose counters exist
}

// New returns the metrics of a process, including the metrics of the Go runtime
// and of the operating system. version is the version of Squall.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	auto := promauto.With(m.registry)
	auto.NewGaugeVec(prometheus.GaugeOpts{Name: "squall_build_info", Help: "Always 1; the labels are the versions of Squall and of Go."}, []string{"version", "goversion"}).
		WithLabelValues(version, runtime.Version()).Set(1)
	m.aboutRuns(auto)
	m.aboutSchedule(auto)
	m.aboutProcess(auto)
	return m
}

func (m *Metrics) aboutRuns(auto promauto.Factory) {
	m.runs = auto.NewCounterVec(prometheus.CounterOpts{Name: "squall_runs_total", Help: "Ended runs, by status and verdict."}, []string{"experiment", "status", "verdict"})
	m.duration = auto.NewHistogram(prometheus.HistogramOpts{
		Name: "squall_run_duration_seconds", Help: "Duration of runs, from the start to the last report.",
		Buckets: []float64{1, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200},
	})
	m.liveRuns = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_runs_live", Help: "Runs in progress."})
	m.liveFaults = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_faults_live", Help: "Active faults."})
	m.objectsLeft = auto.NewCounter(prometheus.CounterOpts{Name: "squall_objects_left_total", Help: "Objects that runs could not remove when they ended."})
}

func (m *Metrics) aboutSchedule(auto promauto.Factory) {
	m.nextStart = auto.NewGaugeVec(prometheus.GaugeOpts{Name: "squall_experiment_next_start_timestamp_seconds", Help: "Time of the next scheduled start of the experiment; absent if there is none."}, []string{"experiment"})
	m.lastStart = auto.NewGaugeVec(prometheus.GaugeOpts{Name: "squall_experiment_last_start_timestamp_seconds", Help: "Time of the last scheduled start of the experiment by this process."}, []string{"experiment"})
	m.lag = auto.NewHistogram(prometheus.HistogramOpts{
		Name: "squall_schedule_lag_seconds", Help: "Delay of scheduled starts after their planned time.",
		Buckets: []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600},
	})
	m.skipped = auto.NewCounterVec(prometheus.CounterOpts{Name: "squall_starts_skipped_total", Help: "Scheduled starts skipped, by reason."}, []string{"experiment", "reason"})
}

func (m *Metrics) aboutProcess(auto promauto.Factory) {
	m.sweeps = auto.NewCounterVec(prometheus.CounterOpts{Name: "squall_sweeps_total", Help: "Sweeps for objects of expired runs, by result."}, []string{"result"})
	for _, result := range []string{"success", "failure"} {
		m.sweeps.WithLabelValues(result)
	}
	m.swept = auto.NewCounter(prometheus.CounterOpts{Name: "squall_swept_objects_total", Help: "Objects removed by sweeps."})
	m.experiments = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_experiments", Help: "Loaded experiments."})
	m.brokenFiles = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_config_broken_files", Help: "Experiment files that do not load; the last good version of each is kept."})
	m.reloadWorked = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_config_last_reload_successful", Help: "1 if every experiment file loaded at the last reload, otherwise 0."})
	m.reloadedAt = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_config_last_reload_success_timestamp_seconds", Help: "Time of the last reload at which every experiment file loaded."})
	m.leader = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_leader", Help: "1 in the leader, which starts runs, 0 in a standby."})
	m.paused = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_paused", Help: "1 while the schedules are paused, otherwise 0."})
	m.notifications = auto.NewCounterVec(prometheus.CounterOpts{Name: "squall_notification_failures_total", Help: "Notifications not delivered, by target."}, []string{"target"})
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Started records a scheduled run that starts now. lag is the delay after its
// planned time.
func (m *Metrics) Started(experiment string, lag time.Duration) {
	m.see(experiment)
	m.lastStart.WithLabelValues(experiment).SetToCurrentTime()
	m.lag.Observe(lag.Seconds())
}

// Finished records a run that has ended and its duration.
func (m *Metrics) Finished(experiment string, result event.Result, took time.Duration) {
	m.see(experiment)
	m.runs.WithLabelValues(experiment, string(result.Status), result.Verdict.String()).Inc()
	m.duration.Observe(took.Seconds())
	m.objectsLeft.Add(float64(len(result.Left)))
}

// Skipped records a scheduled start that was skipped.
func (m *Metrics) Skipped(experiment string, reason scheduler.Reason) {
	m.see(experiment)
	m.skipped.WithLabelValues(experiment, string(reason)).Inc()
}

// NextStart records the next start of an experiment. If ok is false, there is
// none.
func (m *Metrics) NextStart(experiment string, at time.Time, ok bool) {
	m.see(experiment)
	if !ok {
		m.nextStart.DeleteLabelValues(experiment)
		return
	}
	m.nextStart.WithLabelValues(experiment).Set(seconds(at))
}

// see creates the counters of an experiment on first use. For Prometheus a
// counter that appears with the value 1 has not increased, so it must be exported
// as 0 first.
func (m *Metrics) see(experiment string) {
	if _, known := m.seen.LoadOrStore(experiment, true); known {
		return
	}
	for _, status := range []event.Status{event.StatusCompleted, event.StatusRefused, event.StatusStopped, event.StatusInterrupted, event.StatusFailed} {
		for _, verdict := range []steadystate.Verdict{steadystate.Held, steadystate.Inconclusive, steadystate.Deviated} {
			m.runs.WithLabelValues(experiment, string(status), verdict.String())
		}
	}
	for _, reason := range scheduler.Reasons() {
		m.skipped.WithLabelValues(experiment, string(reason))
	}
}

// Forget removes the timestamps of an experiment that no longer exists. Its
// counters are kept.
func (m *Metrics) Forget(experiment string) {
	m.nextStart.DeleteLabelValues(experiment)
	m.lastStart.DeleteLabelValues(experiment)
}

// Live records the number of runs in progress and of active faults.
func (m *Metrics) Live(runs, faults int) {
	m.liveRuns.Set(float64(runs))
	m.liveFaults.Set(float64(faults))
}

// Swept records a sweep and the number of objects that it removed. err is not
// nil if some objects could not be listed or removed.
func (m *Metrics) Swept(objects int, err error) {
	result := "success"
	if err != nil {
		result = "failure"
	}
	m.sweeps.WithLabelValues(result).Inc()
	m.swept.Add(float64(objects))
}

// Reloaded records the result of reading the experiment files.
func (m *Metrics) Reloaded(at time.Time, experiments, brokenFiles int) {
	m.experiments.Set(float64(experiments))
	m.brokenFiles.Set(float64(brokenFiles))
	m.reloadWorked.Set(number(brokenFiles == 0))
	if brokenFiles == 0 {
		m.reloadedAt.Set(seconds(at))
	}
}

// Leading records whether this process starts runs. A process without replicas
// always leads.
func (m *Metrics) Leading(leads bool) { m.leader.Set(number(leads)) }

// Paused records whether the schedules are paused.
func (m *Metrics) Paused(paused bool) { m.paused.Set(number(paused)) }

// Notifies creates the counter of a notification target, so that it is exported
// as 0. The target must be a name without secrets, not a URL.
func (m *Metrics) Notifies(target string) { m.notifications.WithLabelValues(target) }

// NotificationFailed records a notification that was not delivered.
func (m *Metrics) NotificationFailed(target string) { m.notifications.WithLabelValues(target).Inc() }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// seconds returns a time as seconds since the epoch, with milliseconds.
func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
