package runnertest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/squall-chaos/squall/mesh/objects"
)

// store has the objects of a cluster in memory. Its exported methods take the lock, the
// others need it.
type store struct {
	mu      sync.Mutex
	objects map[string]*unstructured.Unstructured // by "KIND NAMESPACE/NAME"
	started map[types.UID]time.Time               // of each Job
	until   map[types.UID]time.Time               // the deadline of each Job
	version int
	born    map[types.UID]int // the version at which each object was created
	graves  []grave
	faults  faults
	changed chan struct{} // closed at the next change
	deleted func(object *unstructured.Unstructured, at time.Time)
}

func (s *store) nextVersion() string {
	s.version++
	return fmt.Sprint(s.version)
}

// notify wakes the watches. The lock is held.
func (s *store) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// expire deletes the Jobs whose deadline has passed, and what they own. The lock is
// held.
func (s *store) expire() {
	for name, object := range s.objects {
		uid := object.GetUID()
		if owners := object.GetOwnerReferences(); len(owners) > 0 {
			uid = owners[0].UID
		}
		if until, known := s.until[uid]; known && !time.Now().Before(until) {
			s.remove(name, until)
		}
	}
}

// grave is an object that is gone, and the version at which it was deleted.
type grave struct {
	object *unstructured.Unstructured
	at     int
}

// at returns the VirtualServices of runs that existed when an object was created, or that
// exist now if it was not. The lock is held.
func (s *store) at(created *unstructured.Unstructured) []*unstructured.Unstructured {
	version, was := s.born[created.GetUID()]
	if !was {
		version = s.version + 1
	}
	var found []*unstructured.Unstructured
	add := func(object *unstructured.Unstructured) {
		if object.GetKind() == objects.KindVirtualService && objects.IsOurs(object) && s.born[object.GetUID()] <= version {
			found = append(found, object.DeepCopy())
		}
	}
	for _, object := range s.objects {
		add(object)
	}
	for _, gone := range s.graves {
		if gone.at >= version {
			add(gone.object)
		}
	}
	return found
}

// remove deletes an object. The lock is held.
func (s *store) remove(name string, at time.Time) {
	object := s.objects[name]
	s.graves = append(s.graves, grave{object: object, at: s.version})
	delete(s.objects, name)
	s.count(at)
	s.deleted(object, at)
	s.notify()
}

// get returns a copy of an object. The lock is held.
func (s *store) get(ref objects.Ref) (*unstructured.Unstructured, error) {
	stored := s.objects[ref.String()]
	if stored == nil || stored.GetUID() != ref.UID {
		return nil, fmt.Errorf("%s %w", ref, objects.ErrGone)
	}
	return stored.DeepCopy(), nil
}

// Edit changes the stored objects, by their kind, namespace and name, such as
// "VirtualService shop/a".
func (s *store) Edit(change func(all map[string]*unstructured.Unstructured)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.objects)
	s.count(time.Now())
	s.notify()
}

// Touch sets a new resource version, as a write of the object's status does.
func (s *store) Touch(name string) {
	s.Edit(func(all map[string]*unstructured.Unstructured) { all[name].SetResourceVersion(s.nextVersion()) })
}

// Object returns an object by its kind, namespace and name, or nil.
func (s *store) Object(name string) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	return s.objects[name].DeepCopy()
}

// Owned returns the names of the objects that belong to runs, in order.
func (s *store) Owned() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	var owned []string
	for name, object := range s.objects {
		if objects.IsOurs(object) {
			owned = append(owned, name)
		}
	}
	slices.Sort(owned)
	return owned
}
