package steps

import "time"

// pace is how long kubelet and the processes may take, and how often is looked.
type pace struct {
	stopping  time.Duration // kubelet begins to stop the API server
	noticed   time.Duration // kubelet has seen that a manifest is gone
	gone      time.Duration // containers are gone once they were asked to end
	end       time.Duration // a container ends by itself, after its manifest is out
	forgotten time.Duration // cgroup and pod directory are gone too
	settle    time.Duration // since the last container ended
	finish    time.Duration // since cgroup and list show that kubelet has finished with a pod
	refused   time.Duration // a pod that kubelet has not begun with after that long was refused
	unseen    time.Duration // the same, by its sandbox, where it can't be seen what kubelet begins
	started   time.Duration
	etcd      time.Duration
	api       time.Duration
	kubelet   time.Duration
	save      time.Duration // for the snapshot of the state before, at least, once the restore is staged
	runtime   time.Duration // for a container runtime that is being restarted
	verify    time.Duration
	nodes     time.Duration // for the other nodes of a fleet
	// for the other members to stop before the leader: it hands over first, and
	// waits for up to 5 s and two election timeouts when whom it hands over to is
	// stopping, too (TryTransferLeadershipOnShutdown, etcdserver)
	handover time.Duration
	sources  time.Duration // until a kubelet that was started without the API has seen it
	relist   time.Duration // of kubelet's containers, in its metrics
	begin    time.Duration // after a list, so that etcd ends just before the next

	readyz   time.Duration // for one answer of the API server
	lookCRI  time.Duration
	lookAPI  time.Duration
	lookUnit time.Duration // systemctl takes 10 ms
	// between two looks at an object, after the outage
	lookConfig time.Duration
	metrics    time.Duration // between two looks: one takes kubelet 10 ms

	// For a process that runs and isn't ready, see patience.
	budget   float64       // the part of its startup probe's budget that is waited for: all of it
	evidence time.Duration // between two looks at its log and its CPU time
	still    time.Duration // without a sign of life, beyond the budget
	most     time.Duration // beyond the budget, in any case
}

// start is how long a process may take that shows no sign of life.
func (p pace) start(least, budget time.Duration) time.Duration {
	return max(least, time.Duration(float64(budget)*p.budget))
}

// realPace is what was measured on kubeadm 1.34.4, with room for slower nodes.
var realPace = pace{
	stopping:  10 * time.Second,        // at once, at worst after 2 s
	noticed:   2 * time.Second,         // by inotify, and a sync under way
	gone:      45 * time.Second,        // a sandbox that was started again: 20 to 33 s
	end:       15 * time.Second,        // etcd: 0.1 s after SIGTERM
	forgotten: 60 * time.Second,        // usually within 2 s
	settle:    2200 * time.Millisecond, // PLEG lists once a second, two lists are needed
	finish:    50 * time.Millisecond,   // 17 ms too early was enough to be refused
	refused:   150 * time.Millisecond,  // one that isn't refused has its directories after 10 ms
	unseen:    1800 * time.Millisecond, // and a sandbox after 0.5 s
	started:   60 * time.Second,
	etcd:      120 * time.Second,
	api:       120 * time.Second,
	kubelet:   30 * time.Second,
	save:      10 * time.Second,
	runtime:   20 * time.Second,
	verify:    30 * time.Second,
	nodes:     15 * time.Minute, // somebody may have to walk to them
	handover:  8 * time.Second,
	sources:   60 * time.Second, // pauses of 0.8 s doubling to 30 s, and up to as much again (reflector, client-go)
	relist:    3 * time.Second,  // one a second
	begin:     450 * time.Millisecond,

	readyz:   300 * time.Millisecond, // an API server that ends may hang for 4 s instead of refusing
	lookCRI:  20 * time.Millisecond,
	lookAPI:  20 * time.Millisecond,
	lookUnit: 50 * time.Millisecond,

	lookConfig: 250 * time.Millisecond,
	metrics:    40 * time.Millisecond,

	budget:   1,
	evidence: 2 * time.Second,
	still:    time.Minute,
	most:     30 * time.Minute,
}
