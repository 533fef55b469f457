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
	said := fmt.Sprintf("%d %s", n, many)
	if n == 1 {
		said = "1 " + one
	}
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
	return told(max(0, n), "%d service accounts created since", "their tokens, kept by CI or in a kubeconfig, are rejected", n)
}

func leasesToReturn(s Since) []Coming {
	n := count(s.Back, true, "masterleases")
	return told(n, "the service kubernetes had %d more API servers then", "their entries return: settle deletes those that stay dead", n)
}

func attachmentsToReturn(s Since) []Coming {
	const resource = "volumeattachments"
	return slices.Concat(
		told(count(s.Lost, false, resource), "%d volumes attached since", "still attached, unknown to the API: check before another node gets them", count(s.Lost, false, resource)),
		told(count(s.Back, false, resource), "%d volumes detached since", "attached in the API again: check which node has them", count(s.Back, false, resource)),
	)
}

func volumesToCome(s Since) []Coming {
	const resource = "persistentvolumes"
	return slices.Concat(
		told(count(s.Lost, false, resource), "%s provisioned since", "the data stays on the storage, and no object names it",
			these(s.Lost, "volume", "volumes", resource)),
		told(count(s.Back, false, resource), "%s deleted since", "the objects return, and the storage may be gone",
			these(s.Back, "volume", "volumes", resource)),
	)
}

func webhooksToReturn(s Since) []Coming {
	n := count(s.Back, false, "mutatingwebhookconfigurations", "validatingwebhookconfigurations")
	return told(n, "%d webhook configurations deleted since", "they return, and reject requests if nothing serves them", n)
}

func apiServicesToReturn(s Since) []Coming {
	return told(count(s.Back, false, "apiservices"), "%s deleted since", "they return, unavailable if nothing serves them",
		these(s.Back, "APIService", "APIServices", "apiservices"))
}

func requestsToReturn(s Since) []Coming {
	n := count(s.Back, false, "certificatesigningrequests")
	return told(n, "%d certificate requests cleaned up since", "they return: approve only what you expect", n)
}

func jobsToReturn(s Since) []Coming {
	jobs := count(s.Back, false, "jobs") + count(s.Reverted, true, "jobs")
	crons := count(s.Reverted, true, "cronjobs")
	return slices.Concat(
		told(jobs, "%d Jobs progressed or were cleaned up since", "those that weren't complete then run again", jobs),
		told(crons, "%d CronJobs ran or were changed since", "a run that was due since the snapshot may start at once", crons),
	)
}

func secretsToReturn(s Since) []Coming {
	n := count(s.Reverted, false, "secrets")
	return told(n, "%d Secrets changed since", "certificates, passwords and tokens in them are the earlier ones again", n)
}
