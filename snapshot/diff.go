package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcd-rewind/problem"
)

// Other is what a snapshot is compared with: one of the three.
type Other struct {
	Snapshot string `json:"snapshot,omitempty"` // path of a file as Inspect reads it
	Etcd     *Etcd  `json:"etcd,omitempty"`     // a running etcd
	DataDir  string `json:"data_dir,omitempty"` // a data directory that no etcd runs on
}

// Comparison says what restoring a snapshot would do to what it is compared
// with. It holds names, and of fields only values that can't be secret.
type Comparison struct {
	Snapshot Side    `json:"snapshot"`
	Other    Side    `json:"other"`
	Lineage  Lineage `json:"lineage"`

	BringsBack Changes `json:"brings_back"` // in the snapshot only
	TakesAway  Changes `json:"takes_away"`  // in the other only
	TurnsBack  Changes `json:"turns_back"`  // in both, and not the same

	// Unread is how many keys of a running etcd count as the same without a
	// look at their values: they were last written at the same revision, as
	// often, and made at the same revision. In one history that is proof; in
	// two (see Lineage) it is none.
	Unread int `json:"unread,omitempty"`
}

// Same says that nothing but noise differs.
func (c *Comparison) Same() bool {
	return c.BringsBack.Objects+c.TakesAway.Objects+c.TurnsBack.Objects == 0
}

// SideKind is what a side of a comparison is.
type SideKind string

// The kinds of sides.
const (
	SideSnapshot SideKind = "snapshot"
	SideCluster  SideKind = "cluster"
	SideDataDir  SideKind = "data directory"
)

// Side is one side of a comparison.
type Side struct {
	What          SideKind  `json:"what"`
	From          string    `json:"from"` // path or endpoint
	Revision      int64     `json:"revision"`
	Keys          int       `json:"keys"`
	KubeSystemUID string    `json:"kube_system_uid,omitempty"`
	LastWrite     time.Time `json:"last_write,omitzero"` // zero when unknown, and of a cluster
	SHA256        string    `json:"sha256,omitempty"`    // of a snapshot, as in Info

	Doubt *problem.Problem `json:"doubt,omitempty"` // of a snapshot, as in Info
}

// Relation is how the histories of the two sides belong together.
type Relation string

// The relations. Forked is what remains after a restore of an older snapshot:
// one cluster, but changes on both sides that the other never had.
const (
	SameMoment   Relation = "same-moment"
	Before       Relation = "before" // the other side continued from the snapshot
	After        Relation = "after"  // the snapshot is newer than the other side
	Forked       Relation = "forked"
	OtherCluster Relation = "other-cluster"
	Unrelated    Relation = "unknown" // no Kubernetes in one of them, or encrypted
)

// Lineage says whether the two sides are of one cluster, and who is older.
type Lineage struct {
	Relation Relation `json:"relation"`
	Cause    string   `json:"cause"` // one line
}

// OneCluster says whether the lineage speaks against a restore.
func (l Lineage) OneCluster() bool { return l.Relation != OtherCluster && l.Relation != Unrelated }

// Changes are the changes in one direction.
type Changes struct {
	Objects int     `json:"objects"` // without noise
	Noise   int     `json:"noise"`
	Groups  []Group `json:"groups,omitempty"` // of all changes, complete, sorted
	// List is sorted, and without noise unless that was asked for. It holds a
	// bounded number of objects; Unlisted says how many didn't fit.
	List     []Change `json:"list,omitempty"`
	Unlisted int      `json:"unlisted,omitempty"`
}

// Group counts the changes of one kind in one namespace.
type Group struct {
	Namespace string `json:"namespace,omitempty"`
	Kind      string `json:"kind"`
	Resource  string `json:"resource"`
	Objects   int    `json:"objects"`
	Noise     Noise  `json:"noise,omitempty"`
}

// Noise is why a change is nothing that a person decides by.
type Noise string

// The reasons.
const (
	NoiseEvent    Noise = "events"
	NoiseLease    Noise = "leases"
	NoiseEndpoint Noise = "endpoints"   // made from services and pods
	NoiseStatus   Noise = "status only" // and metadata that the API server keeps
	NoiseInternal Noise = "internal"    // not a Kubernetes object
)

// Change is one object that differs.
type Change struct {
	ObjectName
	Kind string `json:"kind"`
	// Then and Now are the revisions at which the object was last written in
	// the snapshot and in the other side; 0 where it isn't.
	Then int64 `json:"then,omitempty"`
	Now  int64 `json:"now,omitempty"`
	// Created is when the object was made, in the snapshot if it is there;
	// zero when it wasn't decoded.
	Created time.Time `json:"created,omitzero"`
	// Replaced says that the objects only share a name: their UIDs differ.
	Replaced bool `json:"replaced,omitempty"`
	// Fields is empty for Secrets, for what is encrypted at rest, and for
	// kinds that can't be decoded.
	Fields []Field `json:"fields,omitempty"`
	Noise  Noise   `json:"noise,omitempty"`
}

// Field is one field that differs. A value that might be secret isn't shown:
// Then and Now are empty and Hidden is set.
type Field struct {
	Path   string `json:"path"` // "spec.template.spec.containers[api].image"
	Then   string `json:"then,omitempty"`
	Now    string `json:"now,omitempty"`
	Hidden bool   `json:"hidden,omitempty"`
}

// CompareOptions shape a comparison; the zero value is for a screen.
type CompareOptions struct {
	Noise bool `json:"noise,omitempty"` // list noise too
	// Limit is how many objects are listed in each direction; 0 means 1000.
	Limit int `json:"limit,omitempty"`
	// ExpectSHA256 is Info.SHA256 of a snapshot that was inspected: another file
	// that took its place meanwhile is a Problem. "" is for any file.
	ExpectSHA256 string `json:"expect_sha256,omitempty"`
}

const defaultLimit = 1000

type compareRequest struct {
	Snapshot string         `json:"snapshot"`
	Other    Other          `json:"other"`
	Options  CompareOptions `json:"options"`
}

// Compare says what restoring a snapshot would bring back, take away and turn
// back. It verifies the snapshot, and the other one too, as Inspect does: an
// error for a bad file is a *problem.Problem. Of a running etcd keys and revisions are
// read, and the values of objects that differ, never of Secrets; nothing is
// written to either side. progress may be nil; phase "snapshot" is in bytes,
// "other" in bytes or keys. Safe to call twice and at the same time.
func Compare(ctx context.Context, path string, other Other, opts CompareOptions, progress func(Progress)) (*Comparison, error) {
	req := compareRequest{Snapshot: path, Other: other, Options: opts}
	watched := []*string{&req.Snapshot}
	switch {
	case other.Snapshot != "":
		watched = append(watched, &req.Other.Snapshot)
	case other.DataDir != "":
		abs, err := filepath.Abs(other.DataDir)
		if err != nil {
			return nil, err
		}
		req.Other.DataDir = abs
	case other.Etcd == nil:
		return nil, errors.New("nothing to compare with")
	}
	var before []os.FileInfo
	for _, p := range watched {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, err
		}
		*p = abs
		if _, err := Quick(abs); err != nil {
			return nil, nameProblem(abs, len(watched) > 1, err)
		}
		defer reads(abs)()
		st, _ := os.Stat(abs)
		before = append(before, st)
	}
	var c Comparison
	if err := call(ctx, workCompare, req, &c, progress); err != nil {
		var crash *crashError
		if !errors.As(err, &crash) || crash.signal == "SIGKILL" {
			return nil, err
		}
		// Which file it was, and why, is found one at a time.
		for _, p := range watched {
			if _, ierr := Inspect(ctx, *p, nil); ierr != nil {
				return nil, nameProblem(*p, len(watched) > 1, ierr)
			}
		}
		if other.DataDir != "" {
			return nil, otherProblem(req.Other.DataDir, problem.Coded(CodeStructure, "", "damaged or truncated: %v", crash))
		}
		return nil, problem.Coded(CodeStructure, useAnother, "damaged or truncated: %v", crash)
	}
	for i, p := range watched {
		if before[i] == nil {
			continue
		}
		if problem := changedSince(*p, before[i]); problem != nil {
			return nil, nameProblem(*p, len(watched) > 1, problem)
		}
	}
	return &c, nil
}

// nameProblem says which of several files a Problem is about.
func nameProblem(path string, several bool, err error) error {
	if p := problem.Of(err); p != nil && several {
		return p.About(filepath.Base(path))
	}
	return err
}

// otherProblem says that a comparison failed because of the data directory that
// the snapshot is compared with, which a restore is to replace.
func otherProblem(dir string, err error) error {
	p := problem.Of(err)
	if p == nil {
		return err
	}
	cause := strings.TrimPrefix(strings.TrimPrefix(p.Cause, "not a snapshot: "), "damaged: ")
	return problem.Coded(CodeOther, "the snapshot is intact: the data that etcd runs on, or ran on, can't be read",
		"the database in %s can't be compared with: %s", dir, cause)
}

// lineage judges from what both sides hold. minThen and minNow are the lowest
// revisions at which a key of the one side was written that the other side
// doesn't have at the same revision, 0 for none: in one history, what the newer
// side has from before the older side's end is in the older side too.
func lineage(a, b Side, minThen, minNow int64) Lineage {
	other := b.What
	if other == "snapshot" {
		other = "other snapshot"
	}
	forked := minNow != 0 && minNow <= a.Revision
	if b.Revision < a.Revision {
		forked = minThen != 0 && minThen <= b.Revision
	}
	switch {
	case a.KubeSystemUID == "" || b.KubeSystemUID == "":
		return Lineage{Unrelated, "cannot tell whether both belong to one cluster: the namespace kube-system can't be read in one of them"}
	case a.KubeSystemUID != b.KubeSystemUID:
		return Lineage{OtherCluster, fmt.Sprintf("another cluster: kube-system is %s in the snapshot and %s in the %s", a.KubeSystemUID, b.KubeSystemUID, other)}
	case forked:
		return Lineage{Forked, fmt.Sprintf("one cluster, but both have changes that the other never had: one of them was restored from before revision %d", a.Revision)}
	case a.Revision == b.Revision:
		return Lineage{SameMoment, fmt.Sprintf("one cluster, both at revision %d", a.Revision)}
	case a.Revision < b.Revision:
		return Lineage{Before, fmt.Sprintf("one cluster; the %s is %d revisions further than the snapshot", other, b.Revision-a.Revision)}
	}
	return Lineage{After, fmt.Sprintf("one cluster; the snapshot is %d revisions further than the %s", a.Revision-b.Revision, other)}
}
