package steps

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/trust"
)

func sayAPI(a node.APIAnswer) string {
	switch {
	case a.Code == http.StatusOK:
		return "ready"
	case a.ShuttingDown:
		return "shutting down"
	case len(a.Failing()) > 0:
		return fmt.Sprintf("answers %d, waits for %s", a.Code, someNames(a.Failing()))
	case a.Code != 0:
		return fmt.Sprintf("answers %d", a.Code)
	case a.Err != nil && strings.Contains(a.Err.Error(), "refused"):
		return "refused"
	default:
		return "no answer"
	}
}

func sayPod(boxes []node.Sandbox) string {
	for _, b := range boxes {
		if up := running(b); len(up) > 0 {
			return fmt.Sprintf("pod %s, %s", short(b.UID), sayContainers(b.Containers))
		}
	}
	for _, b := range boxes {
		if b.Ready {
			return fmt.Sprintf("pod %s, container ended, sandbox left", short(b.UID))
		}
	}
	return "gone"
}

func sayContainers(all []node.Container) string {
	if len(all) == 0 {
		return "not created yet"
	}
	newest := all[0]
	for _, c := range all {
		if c.Created.After(newest.Created) {
			newest = c
		}
	}
	switch newest.State {
	case node.Running:
		return "running " + saySince(time.Since(newest.Created))
	case node.Exited:
		n := ""
		if times := (&starts{}).look(all); times > 1 {
			n = fmt.Sprintf(" (%d times)", times)
		}
		return "ended" + n
	default:
		return strings.ToLower(newest.State)
	}
}

// starts counts how often kubelet has started a container while it was looked
// at. What the runtime lists doesn't show it: kubelet removes all but the last of
// those that have ended. And the attempt alone doesn't either: kubelet goes on
// counting from the logs of a pod that had the same UID (calcRestartCountByLogDir,
// kuberuntime_container.go 1.34).
type starts struct {
	first, last uint32
	seen        bool
}

func (s *starts) look(all []node.Container) int {
	for _, c := range all {
		if !s.seen || c.Attempt < s.first {
			s.first = c.Attempt
		}
		s.last = max(s.last, c.Attempt)
		s.seen = true
	}
	return max(len(all), int(s.last-s.first)+1)
}

func saySince(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func sayOld(uids []string) string {
	if len(uids) == 0 {
		return ""
	}
	return short(uids[0]) + " gone → "
}

func sayCgroup(n int, since time.Duration) string {
	if n > 0 {
		return fmt.Sprintf("still there, %.1f s since the end", since.Seconds())
	}
	return "removed by kubelet"
}

func sayLeft(n int) string {
	if n == 0 {
		return "nothing: cgroup and pod directory are gone"
	}
	return "cgroup or pod directory still there"
}

func short(uid string) string {
	if len(uid) > 4 {
		return uid[:4] + "…"
	}
	return uid
}

func running(b node.Sandbox) []node.Container {
	var up []node.Container
	for _, c := range b.Containers {
		if c.State == node.Running {
			up = append(up, c)
		}
	}
	return up
}

// anyReady says whether something of the pod still runs: a sandbox that is
// ready, or a container.
func anyReady(boxes []node.Sandbox) bool {
	for _, b := range boxes {
		if b.Ready || len(running(b)) > 0 {
			return true
		}
	}
	return false
}

// someNames lists the first names, clean, and how many more there are: a
// cluster has thousands of namespaces, and a line has room for a few.
func someNames(names []string) string {
	const most = 8
	var out []string
	for _, n := range names[:min(len(names), most)] {
		out = append(out, trust.Clip(trust.Text(n), 63))
	}
	if rest := len(names) - most; rest > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(out, ", "), rest)
	}
	return strings.Join(out, ", ")
}
