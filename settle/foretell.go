package settle

import (
	"fmt"
	"slices"

	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// Coming is a debt that a restore will cause: what has changed since the snapshot
// was taken, and what follows from it.
type Coming struct {
	Kind string `json:"kind"` // see [Debt]
	Is   string `json:"is"`
	Then string `json:"then"`
}

// Since is what a restore changes, by what it does to an object.
type Since struct {
	Lost     snapshot.Changes // made after the snapshot
	Back     snapshot.Changes // deleted after it
	Reverted snapshot.Changes // changed after it
}

// Foretell says which debts the restore will cause that was compared with the
// cluster as it is.
func Foretell(c *snapshot.Comparison) []Coming {
	if !c.Lineage.OneCluster() {
		return nil // another cluster's: nothing here was made since
	}
	since := Since{c.TakesAway, c.BringsBack, c.TurnsBack}
	var all []Coming
	for _, k := range kinds {
		if k.foretell == nil {
			continue
		}
		for _, c := range k.foretell(since) {
			c.Kind = k.name
			all = append(all, c)
		}
	}
	return all
}

// told is a debt that will be, in a list of one; none where n is 0. %s in is
// stands for the objects.
func told(n int, is, then string, args ...any) []Coming {
	if n == 0 {
		return nil
	}
	return []Coming{{Is: fmt.Sprintf(is, args...), Then: then}}
}

// count is how many objects of these resources have changed; with noise also
// those of which only the status has.
func count(c snapshot.Changes, noise bool, resources ...string) (n int) {
	for _, g := range c.Groups {
		if (noise || g.Noise == "") && slices.Contains(resources, g.Resource) {
			n += g.Objects
		}
	}
	return n
}

// these are the names of changed objects of a resource behind their number, as
// far as they are listed: "2 nodes (w1, w2)".
func these(c snapshot.Changes, one, many, resource string) string {
	n := count(c, false, resource)
	said := plural(n, one, many)
	var names []string
	for _, o := range c.List {
		if o.Resource == resource && o.Noise == "" {
			names = append(names, trust.Clip(trust.Text(o.Name), 63))
		}
	}
	if len(names) == n && n <= 5 {
		said += " (" + some(names) + ")"
	}
	return said
}

// plural is "1 volume", "2 volumes".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func nodesToCome(s Since) []Coming {
	return told(count(s.Lost, false, "nodes"), "%s joined since", "restart kubelet there after the restore: it registers its node only when it starts",
		these(s.Lost, "node", "nodes", "nodes"))
}

func nodesToReturn(s Since) []Coming {
	return told(count(s.Back, false, "nodes"), "%s deleted since", "in the API again, as NotReady: delete what is really gone",
		these(s.Back, "node", "nodes", "nodes"))
}

func tokensToCome(s Since) []Coming {
	// Each namespace has one called default, made with it and hardly ever used.
	n := count(s.Lost, false, "serviceaccounts")
	for _, o := range s.Lost.List {
		if o.Resource == "serviceaccounts" && o.Name == "default" {
			n--
		}
	}
	return told(max(0, n), "%s created since", "tokens kept by CI or in a kubeconfig are rejected", plural(n, "service account", "service accounts"))
}

func leasesToReturn(s Since) []Coming {
	n := count(s.Back, true, "masterleases")
	return told(n, "%s then, not now", "back in the endpoints of the service kubernetes: settle deletes what stays dead", plural(n, "API server", "API servers"))
}

func attachmentsToReturn(s Since) []Coming {
	const resource = "volumeattachments"
	return slices.Concat(
		told(count(s.Lost, false, resource), "%s attached since", "still attached, unknown to the API: check before another node gets the volume", plural(count(s.Lost, false, resource), "volume", "volumes")),
		told(count(s.Back, false, resource), "%s detached since", "attached in the API again: check which node has the volume", plural(count(s.Back, false, resource), "volume", "volumes")),
	)
}

func volumesToCome(s Since) []Coming {
	const resource = "persistentvolumes"
	return slices.Concat(
		told(count(s.Lost, false, resource), "%s provisioned since", "the data stays on the storage, and no object names it",
			these(s.Lost, "volume", "volumes", resource)),
		told(count(s.Back, false, resource), "%s deleted since", "in the API again, and the storage may be gone",
			these(s.Back, "volume", "volumes", resource)),
	)
}

func webhooksToReturn(s Since) []Coming {
	n := count(s.Back, false, "mutatingwebhookconfigurations", "validatingwebhookconfigurations")
	return told(n, "%s deleted since", "in force again: requests are rejected if nothing serves it", plural(n, "webhook configuration", "webhook configurations"))
}

func apiServicesToReturn(s Since) []Coming {
	return told(count(s.Back, false, "apiservices"), "%s deleted since", "in the API again, unavailable if nothing serves it",
		these(s.Back, "APIService", "APIServices", "apiservices"))
}

func requestsToReturn(s Since) []Coming {
	n := count(s.Back, false, "certificatesigningrequests")
	return told(n, "%s cleaned up since", "in the API again: approve only what you expect", plural(n, "certificate request", "certificate requests"))
}

func jobsToReturn(s Since) []Coming {
	jobs := count(s.Back, false, "jobs") + count(s.Reverted, true, "jobs")
	crons := count(s.Reverted, true, "cronjobs")
	return slices.Concat(
		told(jobs, "%s progressed or cleaned up since", "what wasn't complete in the snapshot runs again", plural(jobs, "Job", "Jobs")),
		told(crons, "%s ran or changed since", "a run that was due since the snapshot may start at once", plural(crons, "CronJob", "CronJobs")),
	)
}

func secretsToReturn(s Since) []Coming {
	n := count(s.Reverted, false, "secrets")
	return told(n, "%s changed since", "the certificates, passwords and tokens of the snapshot are in force again", plural(n, "Secret", "Secrets"))
}
