// Package metrics is what `squall serve` tells Prometheus about itself.
//
// It counts what it is told. It never reads a clock for anything but the
// moment of a start, and it decides nothing.
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

	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Why a start was not made.
const (
	SkippedDeadline    = "deadline"    // it was later than the schedule's startingDeadline
	SkippedWindow      = "window"      // outside the schedule's windows, or on an excepted date
	SkippedConcurrency = "concurrency" // another run disturbed the same host
	SkippedLimit       = "limit"       // as many runs were live as there may be until its deadline
	SkippedHost        = "host"        // its target is protected
	SkippedPercentage  = "percentage"  // it would hit a larger share than is permitted
	SkippedDuration    = "duration"    // it would last longer than is permitted
	SkippedPaused      = "paused"      // somebody had paused all starts
	SkippedError       = "error"       // the run could not be begun
)

// skipReasons are all of them.
var skipReasons = []string{ //nolint:gochecknoglobals // a constant list
	SkippedDeadline, SkippedWindow, SkippedConcurrency, SkippedLimit, SkippedHost,
	SkippedPercentage, SkippedDuration, SkippedPaused, SkippedError,
}

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

// New makes the metrics of a process of this version of Squall, which include
// what Go and the operating system know of the process.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	auto := promauto.With(m.registry)
	auto.NewGaugeVec(prometheus.GaugeOpts{Name: "squall_build_info", Help: "Always 1; the labels say what is running."}, []string{"version", "goversion"}).
		WithLabelValues(version, runtime.Version()).Set(1)
	m.aboutRuns(auto)
	m.aboutSchedule(auto)
	m.aboutProcess(auto)
	return m
}

func (m *Metrics) aboutRuns(auto promauto.Factory) {
	m.runs = auto.NewCounterVec(prometheus.CounterOpts{Name: "squall_runs_total", Help: "Runs that have ended, by how and with which verdict."}, []string{"experiment", "status", "verdict"})
	m.duration = auto.NewHistogram(prometheus.HistogramOpts{
		Name: "squall_run_duration_seconds", Help: "How long runs took, from the start to the last report.",
		Buckets: []float64{1, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200},
	})
	m.liveRuns = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_runs_live", Help: "Runs in progress."})
	m.liveFaults = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_faults_live", Help: "Faults in force."})
	m.objectsLeft = auto.NewCounter(prometheus.CounterOpts{Name: "squall_objects_left_total", Help: "Objects that a run could not remove at its end."})
}

func (m *Metrics) aboutSchedule(auto promauto.Factory) {
	m.nextStart = auto.NewGaugeVec(prometheus.GaugeOpts{Name: "squall_experiment_next_start_timestamp_seconds", Help: "When the experiment starts next; absent when it does not."}, []string{"experiment"})
	m.lastStart = auto.NewGaugeVec(prometheus.GaugeOpts{Name: "squall_experiment_last_start_timestamp_seconds", Help: "When this process last started the experiment by schedule."}, []string{"experiment"})
	m.lag = auto.NewHistogram(prometheus.HistogramOpts{
		Name: "squall_schedule_lag_seconds", Help: "How late after its planned time a run was started.",
		Buckets: []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600},
	})
	m.skipped = auto.NewCounterVec(prometheus.CounterOpts{Name: "squall_starts_skipped_total", Help: "Starts that were due and not made, by why."}, []string{"experiment", "reason"})
}

func (m *Metrics) aboutProcess(auto promauto.Factory) {
	m.sweeps = auto.NewCounterVec(prometheus.CounterOpts{Name: "squall_sweeps_total", Help: "Searches for objects whose run's time is over, by result."}, []string{"result"})
	for _, result := range []string{"success", "failure"} {
		m.sweeps.WithLabelValues(result)
	}
	m.swept = auto.NewCounter(prometheus.CounterOpts{Name: "squall_swept_objects_total", Help: "Objects that sweeps have removed."})
	m.experiments = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_experiments", Help: "Experiments that are loaded."})
	m.brokenFiles = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_config_broken_files", Help: "Experiment files that do not load; of each, the last good version is kept."})
	m.reloadWorked = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_config_last_reload_successful", Help: "1 when every experiment file loaded at the last reload, otherwise 0."})
	m.reloadedAt = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_config_last_reload_success_timestamp_seconds", Help: "When every experiment file loaded last."})
	m.leader = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_leader", Help: "1 in the process that starts runs, 0 in one that waits to."})
	m.paused = auto.NewGauge(prometheus.GaugeOpts{Name: "squall_paused", Help: "1 while somebody has paused all starts, otherwise 0."})
	m.notifications = auto.NewCounterVec(prometheus.CounterOpts{Name: "squall_notification_failures_total", Help: "Notifications that could not be sent, by where to."}, []string{"target"})
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Started counts a run that the schedule has started now, lag after its
// planned time.
func (m *Metrics) Started(experiment string, lag time.Duration) {
	m.see(experiment)
	m.lastStart.WithLabelValues(experiment).SetToCurrentTime()
	m.lag.Observe(lag.Seconds())
}

// Finished counts a run that has ended.
func (m *Metrics) Finished(experiment string, result event.Result, took time.Duration) {
	m.see(experiment)
	m.runs.WithLabelValues(experiment, string(result.Status), result.Verdict.String()).Inc()
	m.duration.Observe(took.Seconds())
	m.objectsLeft.Add(float64(len(result.Left)))
}

// Skipped counts a start that was due and not made. The reason is one of the
// constants of this package: any other is a label value without bound.
func (m *Metrics) Skipped(experiment, reason string) {
	m.see(experiment)
	m.skipped.WithLabelValues(experiment, reason).Inc()
}

// NextStart says when an experiment starts next; not ok says that it does not.
func (m *Metrics) NextStart(experiment string, at time.Time, ok bool) {
	m.see(experiment)
	if !ok {
		m.nextStart.DeleteLabelValues(experiment)
		return
	}
	m.nextStart.WithLabelValues(experiment).Set(seconds(at))
}

// see makes an experiment's counters when it is first heard of. A counter that
// appears with a value of 1 has not increased, as far as Prometheus can tell.
func (m *Metrics) see(experiment string) {
	if _, known := m.seen.LoadOrStore(experiment, true); known {
		return
	}
	for _, status := range []event.Status{event.StatusCompleted, event.StatusRefused, event.StatusStopped, event.StatusInterrupted, event.StatusFailed} {
		for _, verdict := range []steadystate.Verdict{steadystate.Held, steadystate.Inconclusive, steadystate.Deviated} {
			m.runs.WithLabelValues(experiment, string(status), verdict.String())
		}
	}
	for _, reason := range skipReasons {
		m.skipped.WithLabelValues(experiment, reason)
	}
}

// Forget says that there is no such experiment any more. What was counted of
// it stays.
func (m *Metrics) Forget(experiment string) {
	m.nextStart.DeleteLabelValues(experiment)
	m.lastStart.DeleteLabelValues(experiment)
}

// Live says how many runs are in progress, and how many faults in force.
func (m *Metrics) Live(runs, faults int) {
	m.liveRuns.Set(float64(runs))
	m.liveFaults.Set(float64(faults))
}

// Swept counts a sweep that has removed this many objects. An error says that
// it could not look everywhere, or not remove everything.
func (m *Metrics) Swept(objects int, err error) {
	result := "success"
	if err != nil {
		result = "failure"
	}
	m.sweeps.WithLabelValues(result).Inc()
	m.swept.Add(float64(objects))
}

// Reloaded says what there is after the experiment files were read.
func (m *Metrics) Reloaded(at time.Time, experiments, brokenFiles int) {
	m.experiments.Set(float64(experiments))
	m.brokenFiles.Set(float64(brokenFiles))
	m.reloadWorked.Set(number(brokenFiles == 0))
	if brokenFiles == 0 {
		m.reloadedAt.Set(seconds(at))
	}
}

// Leading says whether this process starts runs. A process that is alone leads.
func (m *Metrics) Leading(leads bool) { m.leader.Set(number(leads)) }

// Paused says whether somebody has paused all starts.
func (m *Metrics) Paused(paused bool) { m.paused.Set(number(paused)) }

// Notifies makes the counter of a target of notifications, so that its zero is
// seen. A target is named by its kind and place among the others: its URL is a
// secret.
func (m *Metrics) Notifies(target string) { m.notifications.WithLabelValues(target) }

// NotificationFailed counts a notification that could not be sent.
func (m *Metrics) NotificationFailed(target string) { m.notifications.WithLabelValues(target).Inc() }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// seconds gives a time as Prometheus writes it.
func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
