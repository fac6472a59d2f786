package sim

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/squall-chaos/squall/kube/kubetest"
)

// controllers are the Job controller, the TTL-after-finished controller and the
// garbage collector.
type controllers struct {
	world *world
	// down is true while they do nothing. queue is what they do when they go on.
	down  bool
	queue []func()
}

// soon does something after a drawn time, or when the controllers go on.
func (c *controllers) soon(from, to time.Duration, do func()) {
	c.world.in(c.world.skewed(from, to), func() { c.now(do) })
}

func (c *controllers) now(do func()) {
	if c.down {
		c.queue = append(c.queue, do)
		return
	}
	do()
}

// up lets the controllers go on.
func (c *controllers) up() {
	c.down = false
	queue := c.queue
	c.queue = nil
	for _, do := range queue {
		c.soon(10*time.Millisecond, time.Second, do)
	}
}

// changed follows a write.
func (c *controllers) changed(change kubetest.Change) {
	switch {
	case change.Type == "DELETED":
		c.soon(20*time.Millisecond, 2*time.Second, func() { c.collect(change.Object.GetUID()) })
	case change.Key.Resource == "jobs" && change.Type == "ADDED":
		c.soon(10*time.Millisecond, c.world.startup, func() { c.start(change.Key, change.Object.GetUID()) })
	case change.Key.Resource == "jobs":
		c.schedule(change.Key, change.Object)
	}
	if change.Type == "ADDED" {
		for _, owner := range change.Object.GetOwnerReferences() {
			if !c.exists(owner.UID) {
				c.soon(500*time.Millisecond, 3*time.Second, func() { c.collect(owner.UID) })
			}
		}
	}
}

func (c *controllers) exists(uid types.UID) bool {
	for _, job := range c.world.api.List("jobs") {
		if job.GetUID() == uid {
			return true
		}
	}
	return false
}

// start starts a Job, which sets the time from which its deadline counts.
func (c *controllers) start(key kubetest.Key, uid types.UID) {
	job := c.world.api.Get(key)
	if job == nil || job.GetUID() != uid || job.GetDeletionTimestamp() != nil {
		return
	}
	job = job.DeepCopy()
	job.Object["status"] = map[string]any{"startTime": c.world.api.Now().UTC().Format(time.RFC3339)}
	c.world.api.Put(key.Resource, job)
}

// deadline returns when a Job has to fail, on the server's clock.
func deadline(job *unstructured.Unstructured) (at time.Time, ok bool) {
	text, _, _ := unstructured.NestedString(job.Object, "status", "startTime")
	seconds, has, _ := unstructured.NestedInt64(job.Object, "spec", "activeDeadlineSeconds")
	started, err := time.Parse(time.RFC3339, text)
	return started.Add(time.Duration(seconds) * time.Second), err == nil && has
}

// schedule looks at a Job when its deadline has passed.
func (c *controllers) schedule(key kubetest.Key, job *unstructured.Unstructured) {
	at, ok := deadline(job)
	if !ok {
		return
	}
	uid := job.GetUID()
	c.world.in(max(0, at.Sub(c.world.api.Now()))+c.world.skewed(5*time.Millisecond, 500*time.Millisecond), func() {
		c.now(func() { c.expire(key, uid) })
	})
}

// expire fails a Job whose deadline has passed, and deletes it.
func (c *controllers) expire(key kubetest.Key, uid types.UID) {
	job := c.world.api.Get(key)
	if job == nil || job.GetUID() != uid {
		return
	}
	if at, ok := deadline(job); !ok || at.After(c.world.api.Now()) {
		return
	}
	if ttl, has, _ := unstructured.NestedInt64(job.Object, "spec", "ttlSecondsAfterFinished"); !has || ttl > 0 {
		return
	}
	c.soon(10*time.Millisecond, time.Second, func() {
		if job := c.world.api.Get(key); job != nil && job.GetUID() == uid {
			c.world.api.Remove(key)
		}
	})
}

// collect deletes what an object that is gone owned.
func (c *controllers) collect(owner types.UID) {
	if c.exists(owner) {
		return
	}
	for _, resource := range []string{"virtualservices", "serviceentries", "destinationrules"} {
		for _, object := range c.world.api.List(resource) {
			if owned(object.GetOwnerReferences(), owner) {
				c.world.api.Remove(kubetest.Key{Resource: resource, Namespace: object.GetNamespace(), Name: object.GetName()})
			}
		}
	}
}

func owned(owners []metav1.OwnerReference, by types.UID) bool {
	for _, owner := range owners {
		if owner.UID == by {
			return len(owners) == 1
		}
	}
	return false
}
