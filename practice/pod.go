package practice

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// sync brings a pod where its manifest wants it (kuberuntime_manager.go,
// SyncPod): a sandbox, and in it each container that doesn't run, unless it
// has to wait.
func (w *worker) sync() error {
	k, uid := w.k, w.pod.uid
	for _, dir := range []string{filepath.Join(k.podDir(uid), "volumes"), k.podCgroup(uid)} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}
	v := k.rt.view(uid)
	box := v.ready
	if box == nil {
		// A sandbox that somebody ended takes its containers along.
		for _, c := range v.containers {
			k.rt.stopContainer(c, 0)
		}
		var err error
		if box, err = k.rt.runSandbox(uid, w.pod.pod.Namespace, w.pod.name(), w.pod.pod.Annotations); err != nil {
			return err
		}
	}
	var failed error
	for i := range w.pod.pod.Spec.Containers {
		spec := &w.pod.pod.Spec.Containers[i]
		if err := w.syncContainer(box, v, spec); err != nil {
			failed = err
		}
	}
	return failed
}

func (w *worker) syncContainer(box *sandbox, v podView, spec *corev1.Container) error {
	k := w.k
	i := slices.IndexFunc(v.containers, func(c *container) bool { return c.name == spec.Name })
	if i >= 0 {
		last := v.containers[i]
		state, ended := k.rt.endState(last)
		if last.sandbox == box && state != exited {
			return nil
		}
		if k.inBackOff(w.pod.uid+"/"+spec.Name+"/"+last.hash, ended) {
			return errBackOff
		}
	}
	c, err := k.rt.startContainer(box, w.pod.pod, spec)
	if err != nil {
		return err
	}
	k.log.Printf("started container %s of %s (%s)", c.name, w.pod.key, w.pod.uid)
	k.rt.forgetOld(w.pod.uid, spec.Name, 2)
	k.done.Go(func() { k.probe(w, c, spec) })
	return nil
}

// inBackOff is doBackOff: it counts from the end of the last container of the
// same UID and name, 10 s, doubling to 300 s.
func (k *kubelet) inBackOff(key string, ended time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	b := k.backoff[key]
	switch {
	case b == nil || ended.Sub(b.last) > 2*maxBackOff:
		k.backoff[key] = &backOff{wait: initialBackOff, last: now}
		return false
	case now.Sub(ended) < b.wait:
		return true
	}
	b.wait, b.last = min(2*b.wait, maxBackOff), now
	return false
}

// end is SyncTerminatingPod and SyncTerminatedPod: the containers are stopped
// within their grace period; that is noticed at one list of the runtime, the
// rest is done at the next, and only then may a pod of the same name start.
func (w *worker) end(started bool, stopped <-chan struct{}) {
	k := w.k
	if started {
		k.mu.Lock()
		grace := w.grace
		k.mu.Unlock()
		k.log.Printf("stopping pod %s (%s), grace period %s", w.pod.key, w.pod.uid, grace)
		v := k.rt.view(w.pod.uid)
		over := make(chan struct{})
		go func() { // the runtime's work: it continues when kubelet is restarted
			defer close(over)
			var all sync.WaitGroup
			for _, c := range v.containers {
				all.Go(func() { k.rt.stopContainer(c, grace) })
			}
			all.Wait()
			k.rt.stopSandboxes(w.pod.uid)
		}()
		for _, next := range []func() <-chan struct{}{func() <-chan struct{} { return over }, k.nextList, k.nextList} {
			select {
			case <-next():
			case <-stopped:
				return
			}
		}
		_ = os.RemoveAll(k.podCgroup(w.pod.uid))
		_ = os.RemoveAll(k.podDir(w.pod.uid))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w.phase = finished
	if k.started[w.pod.key] == w.pod.uid {
		delete(k.started, w.pod.key)
	}
	k.log.Printf("pod %s (%s) is finished", w.pod.key, w.pod.uid)
}
