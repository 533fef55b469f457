package settle

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"etcd-rewind/node"
	"etcd-rewind/trust"
)

// Refused is a pod whose token the API server doesn't take.
type Refused struct {
	Pod
	Why string `json:"why"` // as the API server says it
}

// mostTokens bounds how many tokens of a node are looked at: kube-system's first.
const mostTokens = 50

// refused asks the API server about the tokens of this node's pods. It is asked by
// kubelet's own kubeconfig, on the node: no token leaves it.
func refused(ctx context.Context, k *node.Kubelet, pods []Pod) (out []Refused, asked int, err error) {
	if k.Kubeconfig == "" {
		return nil, 0, nil // it asks no API server
	}
	pods = slices.Clone(pods)
	slices.SortStableFunc(pods, func(a, b Pod) int { return cmp.Compare(rank(a), rank(b)) })
	for _, p := range pods {
		token, err := k.Token(p.UID)
		if err != nil || token == "" {
			continue // the pod has ended, or has none
		}
		if asked == mostTokens {
			break
		}
		asked++
		taken, why, err := node.ReviewToken(ctx, k.Kubeconfig, token)
		if err != nil {
			return nil, asked, err
		}
		if !taken {
			out = append(out, Refused{p, trust.Clip(trust.Text(why), 200)})
		}
	}
	return out, asked, nil
}

func rank(p Pod) int {
	if p.Namespace == metav1.NamespaceSystem {
		return 0
	}
	return 1
}

// workload is what a pod belongs to.
type workload struct{ resource, namespace, name string }

func (w workload) String() string { return strings.TrimSuffix(w.resource, "s") + "/" + w.name }

// tokens are the workloads whose pods ask the API server with tokens that it
// refuses: bound to a pod or a service account that is another now, or signed with
// another key. What the API doesn't have is kubelet's to end, not theirs to roll out.
func tokens(ctx context.Context, c *Cluster) ([]Debt, error) {
	type at struct{ node, uid string } // a node speaks of its own pods only
	why := map[at]string{}
	var unread error
	asked := 0
	for _, k := range c.kubelets {
		asked += k.Tokens
		if k.TokensErr != "" {
			unread = fmt.Errorf("%s: %s", trust.Text(k.Node), k.TokensErr)
		}
		for _, r := range k.Refused {
			why[at{k.Node, r.UID}] = cmp.Or(trust.Clip(trust.Text(r.Why), 200), "no reason given")
		}
	}
	if len(why) == 0 {
		return nil, unread
	}
	var order []workload
	pods, said := map[workload][]string{}, map[workload]string{}
	alone := map[string]string{} // pods that nothing makes again
	here := 0                    // the refused pods that are in the API
	err := list(ctx, c, "api/v1/pods", func(p *corev1.Pod) {
		because := why[at{p.Spec.NodeName, string(p.UID)}]
		if because == "" {
			return
		}
		here++
		name := p.Namespace + "/" + p.Name
		w, ok := owner(p)
		if !ok {
			alone[name] = because
			return
		}
		if pods[w] == nil {
			order = append(order, w)
		}
		pods[w], said[w] = append(pods[w], name), because
	})
	if err != nil {
		return nil, err
	}
	const means = "its requests to the API are rejected: a controller hangs, but still appears to run"
	var out []Debt
	// A token of a pod that isn't in the API is refused with the right key, too.
	if asked -= len(why) - here; here >= asked && asked > 1 {
		out = append(out, Debt{
			Object: "sa.key", Is: fmt.Sprintf("the API server rejects all %d tokens that were checked: %s", asked, first(why)),
			Means:    "it may verify with another key than the one that signed them: --service-account-key-file has to be the cluster's key, the same on all control planes. Fix that first",
			Commands: []string{c.keysCommand()},
		})
	}
	for _, w := range order {
		out = append(out, Debt{
			Object: w.namespace + "/" + w.String(), Is: "the API server rejects the token of " + some(pods[w]) + ": " + said[w], Means: means,
			Commands: []string{trust.Shell("kubectl -n %s rollout restart %s", w.namespace, w.String())},
			Sure:     "All pods of " + trust.Text(w.String()) + " are replaced, as in a rollout.",
			settle: func(ctx context.Context) (string, error) {
				f := c.Facts
				return "its pods are being replaced", node.RestartRollout(ctx, f.Reach.API.Kubeconfig, f.Reach.Server, w.resource, w.namespace, w.name, time.Now())
			},
		})
	}
	for _, name := range slices.Sorted(maps.Keys(alone)) {
		because := alone[name]
		ns, pod, _ := strings.Cut(name, "/")
		out = append(out, Debt{
			Object: name, Is: "the API server rejects its token: " + because, Means: means,
			Commands: []string{trust.Shell("kubectl -n %s delete pod %s", ns, pod) + "   # if something re-creates it"},
		})
	}
	return few(out), unread
}

// owner is the workload that replaces a pod in a rollout. A ReplicaSet's name is its
// Deployment's with the hash of the template, which the pod has as a label.
func owner(p *corev1.Pod) (workload, bool) {
	for _, o := range p.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		switch o.Kind {
		case "DaemonSet", "StatefulSet":
			return workload{strings.ToLower(o.Kind) + "s", p.Namespace, o.Name}, true
		case "ReplicaSet":
			name, ok := strings.CutSuffix(o.Name, "-"+p.Labels["pod-template-hash"])
			return workload{"deployments", p.Namespace, name}, ok
		}
	}
	return workload{}, false
}

// first is a value of a map with one at least.
func first[K comparable](m map[K]string) string {
	return slices.Sorted(maps.Values(m))[0]
}

// keysCommand shows with which keys the API server verifies tokens; on each control
// plane, to be compared.
func (c *Cluster) keysCommand() string {
	if a := c.Facts.API; a != nil && a.Source != nil {
		return trust.Shell("grep service-account-.*-file %s", a.Source.Path()) + "   # on each control plane; then sha256sum of these files"
	}
	return "grep service-account-.*-file of kube-apiserver's manifest, on each control plane; then sha256sum of these files"
}
