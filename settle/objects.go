package settle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"etcd-rewind/trust"
)

// attachments are those of nodes or volumes that aren't in the API. Volumes are
// for people: the data on them is not in etcd.
func attachments(ctx context.Context, c *Cluster) ([]Debt, error) {
	nodes, err := c.nodes()
	if err != nil {
		return nil, err
	}
	all, err := c.volumes()
	if err != nil {
		return nil, err
	}
	volumes := map[string]bool{}
	for _, v := range all {
		volumes[v.Name] = true
	}
	var out []Debt
	err = list(ctx, c, "apis/storage.k8s.io/v1/volumeattachments", func(a *storagev1.VolumeAttachment) {
		d := Debt{Object: a.Name, Commands: []string{trust.Shell("kubectl describe volumeattachment %s", a.Name)}}
		switch v := a.Spec.Source.PersistentVolumeName; {
		case !nodes[a.Spec.NodeName]:
			d.Is = fmt.Sprintf("it attaches a volume to %s, which isn't a node", trust.Text(a.Spec.NodeName))
			d.Means = "the volume can't be attached elsewhere until this is gone; check with the storage's own tools whether it is attached there"
		case v != nil && !volumes[*v]:
			d.Is = fmt.Sprintf("it attaches %s, which isn't in the API", trust.Text(*v))
			d.Means = "the driver tries to detach it forever; check with the storage's own tools which node has it"
		default:
			return
		}
		out = append(out, d)
	})
	return few(out), err
}

// volumes are claims and volumes that don't have each other any more.
func volumes(ctx context.Context, c *Cluster) ([]Debt, error) {
	claims := map[string]string{}
	var out []Debt
	err := list(ctx, c, "api/v1/persistentvolumeclaims", func(p *corev1.PersistentVolumeClaim) {
		claims[p.Namespace+"/"+p.Name] = string(p.UID)
		if p.Status.Phase == corev1.ClaimLost {
			out = append(out, Debt{
				Object: p.Namespace + "/" + p.Name, Is: fmt.Sprintf("this claim is bound to %s, which isn't in the API", trust.Text(p.Spec.VolumeName)),
				Means:    "its pods don't start; the data may still be on the storage, under the volume's own name",
				Commands: []string{trust.Shell("kubectl -n %s describe pvc %s", p.Namespace, p.Name)},
			})
		}
	})
	if err != nil {
		return nil, err
	}
	all, err := c.volumes()
	if err != nil {
		return nil, err
	}
	for _, v := range all {
		ref := v.Spec.ClaimRef
		if ref == nil || ref.UID == "" || claims[ref.Namespace+"/"+ref.Name] == string(ref.UID) {
			continue
		}
		is := fmt.Sprintf("this volume belongs to the claim %s/%s, which isn't in the API", trust.Text(ref.Namespace), trust.Text(ref.Name))
		if claims[ref.Namespace+"/"+ref.Name] != "" {
			is = fmt.Sprintf("this volume belongs to an earlier claim %s/%s than the one in the API", trust.Text(ref.Namespace), trust.Text(ref.Name))
		}
		means := "it is kept (Retain): bind it again by hand if its data is needed"
		if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			means = "its reclaim policy is Delete: the controller deletes it with its data. Set Retain first, if the data is needed"
		}
		out = append(out, Debt{Object: v.Name, Is: is, Means: means, Commands: []string{
			trust.Shell("kubectl describe pv %s", v.Name),
			trust.Shell(`kubectl patch pv %s -p %s`, v.Name, `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`),
		}})
	}
	if c.Before != nil {
		out = append(out, volumesSince(c, len(all))...)
	}
	return few(out), nil
}

// volumesSince says that there were more volumes before the restore: those that
// a driver made since lie on the storage, and nothing names them.
func volumesSince(c *Cluster, now int) []Debt {
	before := 0
	for _, k := range c.Before.Kinds {
		if k.Resource == "persistentvolumes" {
			before = k.Objects
		}
	}
	if before <= now {
		return nil
	}
	return []Debt{{
		Is:       fmt.Sprintf("there were %d volumes before the restore, and there are %d", before, now),
		Means:    "volumes that drivers provisioned after the snapshot are still on the storage, cost money, and have no owner",
		Commands: []string{"etcd-rewind diff SNAPSHOT BEFORE   # names them"},
	}}
}

// webhooks are those that refuse what they are called for while nothing answers.
func webhooks(ctx context.Context, c *Cluster) ([]Debt, error) {
	ready := map[string]bool{}
	err := list(ctx, c, "apis/discovery.k8s.io/v1/endpointslices", func(s *discoveryv1.EndpointSlice) {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready[s.Namespace+"/"+s.Labels[discoveryv1.LabelServiceName]] = true
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var out []Debt
	see := func(kind, config, name string, policy *admissionv1.FailurePolicyType, of admissionv1.WebhookClientConfig) {
		s := of.Service
		if s == nil || policy != nil && *policy != admissionv1.Fail || ready[s.Namespace+"/"+s.Name] {
			return
		}
		out = append(out, Debt{
			Object: config, Is: fmt.Sprintf("its webhook %s must admit requests (failurePolicy: Fail), and the service %s/%s has no ready pod", trust.Text(name), trust.Text(s.Namespace), trust.Text(s.Name)),
			Means:    "the requests it is called for are rejected: perhaps for the very pods that serve it",
			Commands: []string{trust.Shell("kubectl -n %s get pods,endpointslices", s.Namespace), trust.Shell("kubectl get %s %s -o yaml", kind, config)},
		})
	}
	const mutating, validating = "mutatingwebhookconfigurations", "validatingwebhookconfigurations"
	err = errors.Join(
		list(ctx, c, "apis/admissionregistration.k8s.io/v1/"+mutating, func(w *admissionv1.MutatingWebhookConfiguration) {
			for _, h := range w.Webhooks {
				see(mutating, w.Name, h.Name, h.FailurePolicy, h.ClientConfig)
			}
		}),
		list(ctx, c, "apis/admissionregistration.k8s.io/v1/"+validating, func(w *admissionv1.ValidatingWebhookConfiguration) {
			for _, h := range w.Webhooks {
				see(validating, w.Name, h.Name, h.FailurePolicy, h.ClientConfig)
			}
		}),
	)
	return few(out), err
}

// apiService has of an APIService what is looked at: its package would bring the
// aggregator along.
type apiService struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Status   struct {
		Conditions []struct{ Type, Status, Message string } `json:"conditions"`
	} `json:"status"`
}

func apiServices(ctx context.Context, c *Cluster) ([]Debt, error) {
	var out []Debt
	err := list(ctx, c, "apis/apiregistration.k8s.io/v1/apiservices", func(s *apiService) {
		for _, is := range s.Status.Conditions {
			if is.Type == "Available" && is.Status != "True" {
				out = append(out, Debt{
					Object: s.Metadata.Name, Is: "it isn't available: " + trust.Clip(trust.Text(is.Message), 200),
					Means:    "kubectl and controllers that discover all kinds fail or are slow; namespaces stay in Terminating",
					Commands: []string{trust.Shell("kubectl get apiservice %s -o yaml", s.Metadata.Name)},
				})
			}
		}
	})
	return few(out), err
}

// signingRequests wait for somebody. They are named, and never approved: one of
// the state before may be anybody's.
func signingRequests(ctx context.Context, c *Cluster) ([]Debt, error) {
	var out []Debt
	err := list(ctx, c, "apis/certificates.k8s.io/v1/certificatesigningrequests", func(r *certificatesv1.CertificateSigningRequest) {
		if len(r.Status.Conditions) > 0 || len(r.Status.Certificate) > 0 {
			return
		}
		out = append(out, Debt{
			Object: r.Name, Is: fmt.Sprintf("%s has been waiting for a certificate since %s", trust.Text(r.Spec.Username), r.CreationTimestamp.UTC().Format(time.DateTime)),
			Means:    "a kubelet whose request was signed before the restore asks again; approve only what you expect",
			Commands: []string{trust.Shell("kubectl describe csr %s", r.Name)},
		})
	})
	return few(out), err
}

// jobs are those that are not complete in the restored state: they run again, also
// when they had been done. And those that a CronJob has started since for a time
// before the restore: the run of that time has been twice.
func jobs(ctx context.Context, c *Cluster) ([]Debt, error) {
	if c.Before == nil || c.Before.LastWrite.IsZero() {
		return nil, nil // when the restore was isn't known
	}
	left := metav1.Time{Time: c.Before.LastWrite}
	var open, again []string
	err := list(ctx, c, "apis/batch/v1/jobs", func(j *batchv1.Job) {
		name := j.Namespace + "/" + j.Name
		if due, err := time.Parse(time.RFC3339, j.Annotations[batchv1.CronJobScheduledTimestampAnnotation]); err == nil {
			if !due.After(left.Time) && left.Before(&j.CreationTimestamp) {
				again = append(again, fmt.Sprintf("%s, due at %s", name, due.UTC().Format(time.DateTime)))
			}
		}
		ended := slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
			return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
		})
		suspended := j.Spec.Suspend != nil && *j.Spec.Suspend
		if !ended && !suspended && j.CreationTimestamp.Before(&left) {
			open = append(open, name)
		}
	})
	var out []Debt
	if len(open) > 0 {
		out = append(out, Debt{
			Is:       fmt.Sprintf("%s of the restored state, not complete: %s", plural(len(open), "Job", "Jobs"), some(open)),
			Means:    "what had completed before the restore runs again from the start, unless its pod is still on the node",
			Commands: []string{`kubectl get jobs -A   # kubectl -n NAMESPACE patch job NAME -p '{"spec":{"suspend":true}}' holds one`},
		})
	}
	if len(again) > 0 {
		out = append(out, Debt{
			Is:       fmt.Sprintf("CronJobs have started %s since the restore for a time before it: %s", plural(len(again), "Job", "Jobs"), some(again)),
			Means:    "the restored CronJob doesn't know that this run has been: what it does was probably done twice",
			Commands: []string{"kubectl get jobs -A --sort-by=.metadata.creationTimestamp"},
		})
	}
	return out, err
}

// leaseGrace is how long a lease has to be over: clocks differ, and whoever waits for
// it tries again every few seconds.
const leaseGrace = 30 * time.Second

// leases are those of leader elections that ended and that nobody has taken, and those
// that a holder of before the restore has for long. They are seen twice, unchanged.
func leases(ctx context.Context, c *Cluster) ([]Debt, error) {
	if c.Facts.Own {
		return nil, nil // what stands in for controllers on a practice node holds none
	}
	first, err := c.deadLeases(ctx)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	if err := wait(ctx, c.pause(looksApart)); err != nil {
		return nil, err
	}
	second, err := c.deadLeases(ctx)
	if err != nil {
		return nil, err
	}
	var out []Debt
	for _, name := range slices.Sorted(maps.Keys(first)) {
		l, still := second[name]
		if !still || l.changed != first[name].changed {
			continue
		}
		out = append(out, Debt{
			Object: name, Is: l.is, Means: "nobody leads: its controller does nothing until one of its pods takes the lease. Check whether one is running",
			Commands: []string{trust.Shell("kubectl -n %s describe lease %s", l.namespace, l.name), trust.Shell("kubectl -n %s get pods", l.namespace)},
		})
	}
	return few(out), nil
}

type deadLease struct{ namespace, name, is, changed string }

// mostLeases bounds how many are looked at twice.
const mostLeases = 1000

func (c *Cluster) deadLeases(ctx context.Context) (map[string]deadLease, error) {
	out := map[string]deadLease{}
	err := list(ctx, c, "apis/coordination.k8s.io/v1/leases", func(l *coordinationv1.Lease) {
		// Those of nodes and API servers elect nobody.
		if l.Namespace == corev1.NamespaceNodeLease || l.Labels["apiserver.kubernetes.io/identity"] != "" || len(out) >= mostLeases {
			return
		}
		holder, renewed, lasts := l.Spec.HolderIdentity, l.Spec.RenewTime, l.Spec.LeaseDurationSeconds
		if holder == nil || *holder == "" || renewed == nil || lasts == nil {
			return
		}
		now, until := time.Now(), renewed.Add(time.Duration(*lasts)*time.Second)
		d := deadLease{namespace: l.Namespace, name: l.Name, changed: l.ResourceVersion + renewed.String()}
		by := fmt.Sprintf("%s, renewed last at %s", trust.Clip(trust.Text(*holder), longestShown), renewed.UTC().Format(time.DateTime))
		switch {
		case now.After(until.Add(leaseGrace)):
			d.is = "it is held by " + by + ", and nobody has taken it since"
		case until.After(now.Add(leaseGrace)) && (renewed.After(now.Add(leaseGrace)) || c.renewedBefore(renewed.Time)):
			d.is = fmt.Sprintf("it is held by %s, and lasts until %s", by, until.UTC().Format(time.DateTime))
		default:
			return
		}
		out[l.Namespace+"/"+l.Name] = d
	})
	return out, err
}

// renewedBefore says that a time is before the restore, where that is known.
func (c *Cluster) renewedBefore(t time.Time) bool {
	return c.Before != nil && !t.After(c.Before.LastWrite)
}
