package steps

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/trust"
)

// WaitRelist waits, while the API still answers, for the moment of kubelet's
// second at which the outage is shortest. Kubelet lists its containers once a
// second (genericPlegRelistPeriod) and finishes with a pod on the first list
// after its end, so etcd should end just before one. Its sandbox is stopped 0.3
// to 0.4 s after the manifest of the API server is out, and kubelet needs 0.1 s
// more (measured on 1.34.4, 2 cores).
//
// It can't see whether kubelet has synced a pod since its last list. Such a pod
// kubelet begins to end on the next one only (GetNewerThan, pod_workers.go 1.34).
//
// It never fails: where kubelet gives no sign of when it lists, the run continues,
// and the outage may take up to a second longer. With EventedPLEG, kubelet until
// 1.36 lists every 300 s, and takes what it knows of a pod for current only every
// 5 s (globalCacheUpdatePeriod, pkg/kubelet/pleg/evented.go 1.36).
type WaitRelist struct {
	Metrics node.MetricsConfig `json:"metrics"`
}

func (*WaitRelist) Kind() string { return "wait-relist" }

func (*WaitRelist) Title() string { return "Wait for kubelet's list" }

func (a *WaitRelist) Commands() []string {
	return []string{
		trust.Shell("lists() { curl -sk --cert %s --key %s %s | grep %s; }", a.Metrics.Cert, a.Metrics.Key, a.Metrics.URL, "^"+node.RelistsMetric),
		trust.Shell(`n=$(lists); while [ "$(lists)" = "$n" ]; do sleep 0.05; done; sleep %.2f`, realPace.begin.Seconds()),
	}
}

func (*WaitRelist) limit(p pace) time.Duration { return p.relist }

var errNoRelist = errors.New("kubelet has not listed its containers")

func (a *WaitRelist) do(ctx context.Context, r *run) (State, error) {
	first, err := r.world.Relists(ctx)
	if err == nil {
		_, err = r.poll(ctx, a.limit(r.pace), r.pace.metrics, a.look(r, first), func(sight) error { return errNoRelist })
	}
	switch {
	case ctx.Err() != nil:
		return Stopped, errStopped
	case errors.Is(err, errNoRelist):
		r.say("%s for %.0f s, as with EventedPLEG before Kubernetes 1.37: the API may be down up to 5 s longer", err, a.limit(r.pace).Seconds())
		return Already, nil
	case err != nil:
		r.say("can't tell when kubelet lists its containers (%s): the API may be down up to 1 s longer", err)
		return Already, nil
	}
	return Done, nil
}

func (a *WaitRelist) look(r *run, first int) func(context.Context) (sight, error) {
	count := first
	var listed time.Time
	return func(ctx context.Context) (sight, error) {
		if count == first {
			n, err := r.world.Relists(ctx)
			if err != nil {
				return sight{}, err
			}
			if n != first {
				count, listed = n, r.now()
			}
		}
		lists := Sighting{What: "kubelet's lists", Is: strconv.Itoa(count), OK: count != first}
		if count == first {
			return sight{seen: []Sighting{lists}}, nil
		}
		since := min(r.now().Sub(listed), r.pace.begin)
		return sight{ok: since == r.pace.begin, seen: []Sighting{
			lists,
			{What: "since the last", Is: fmt.Sprintf("%.1f s of %.2f s", since.Seconds(), r.pace.begin.Seconds()), OK: since == r.pace.begin},
		}}, nil
	}
}

func (*WaitRelist) places(*vetter) {}

func (*WaitRelist) undo() []Action { return nil }
