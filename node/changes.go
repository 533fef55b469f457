package node

import (
	"errors"
	"path/filepath"

	"etcd-rewind/defect"
	"github.com/fsnotify/fsnotify"
)

// Changes reports, without polling, that something happened to this node's
// pods: a manifest came or went, kubelet made or removed a pod's directory or
// its cgroup. Kernels report what is made and removed in a cgroup hierarchy as
// in any other directory (inotify; seen on Linux 6.18, both cgroup versions). What
// it was, the receiver looks up.
type Changes struct {
	// C gets a value once something has happened since the last one was taken.
	C <-chan struct{}

	watcher *fsnotify.Watcher
	done    chan struct{}
}

// Changes begins to watch. It fails when nothing can be watched, for example
// because the user's inotify instances are used up; who waits then asks now and
// then instead. Close it after use.
func (k *Kubelet) Changes() (*Changes, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	dirs := []string{k.StaticPodPath, k.podsDir()}
	for top, dir := range k.podCgroups() {
		dirs = append(dirs, filepath.Join(top, dir.path))
	}
	var errs []error
	for _, dir := range dirs {
		if err := w.Add(dir); err != nil { // most don't exist: another driver's, another version's
			errs = append(errs, err)
		}
	}
	if len(errs) == len(dirs) {
		return nil, errors.Join(append(errs, w.Close())...)
	}
	c := make(chan struct{}, 1)
	changes := &Changes{C: c, watcher: w, done: make(chan struct{})}
	go defect.Do(func() {
		defer close(changes.done)
		for {
			select {
			case _, ok := <-w.Events:
				if !ok {
					return
				}
			case _, ok := <-w.Errors: // events were lost: then something has happened
				if !ok {
					return
				}
			}
			select {
			case c <- struct{}{}:
			default:
			}
		}
	})()
	return changes, nil
}

// Close ends the watch; C then stays silent. Safe to call twice.
func (c *Changes) Close() error {
	err := c.watcher.Close()
	<-c.done
	return err
}
