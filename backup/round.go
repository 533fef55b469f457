package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A round of the schedule is one backup of the cluster, in each location, though
// every node may run the timer: who comes first claims it there. The claim is a
// small object that a store gives to one node only, and is of no use once the
// record is there. A node whose claim has led to nothing for a while is taken to
// be down, and the next claims the round after it. When both come to an end
// after all there are two backups of the round, which is no harm.

// Round is the round that a moment belongs to.
func (s Schedule) Round(t time.Time) Round {
	t = t.UTC()
	first := t.Truncate(24 * time.Hour).Add(time.Duration(s.At)) // of the day
	every := time.Duration(s.Every)
	n := t.Sub(first) / every
	if t.Before(first.Add(n * every)) { // division goes towards zero
		n--
	}
	return RoundAt(first.Add(n * every))
}

// takeOver is how long a claim may lead to nothing.
func (s Schedule) takeOver() time.Duration {
	return min(max(time.Duration(s.Every)/4, 2*time.Minute), 30*time.Minute)
}

// standing is how a round stands in a location.
type standing struct {
	done   *Entry // the backup of the round, when it is there and whole
	holder string // the node that has claimed it, "" when nobody has
	claim  int    // number of the last claim, 0 without one
	since  time.Time
}

const (
	claimPrefix = "claim."
	maxClaims   = 1000
	maxClaim    = 4 << 10
)

func claimName(cluster string, r Round, n int) string {
	return path.Join(cluster, r.String(), claimPrefix+strconv.Itoa(n))
}

// splitClaim takes the name of a claim apart.
func splitClaim(name string) (cluster string, r Round, n int, ok bool) {
	dir, file := path.Split(name)
	cluster, at, _ := strings.Cut(strings.TrimSuffix(dir, "/"), "/")
	r, err := ParseRound(at)
	number, nerr := strconv.Atoi(strings.TrimPrefix(file, claimPrefix))
	return cluster, r, number, err == nil && nerr == nil && number <= maxClaims && uid.MatchString(cluster) && name == claimName(cluster, r, number)
}

// claim says which node is about to take a round.
type claim struct {
	Cluster string    `json:"cluster"`
	Round   Round     `json:"round"`
	Number  int       `json:"number"`
	Node    string    `json:"node"`
	Time    time.Time `json:"time"`
}

// stands looks how a round stands in a store.
func stands(ctx context.Context, s Store, k Key, cluster string, r Round) (*standing, error) {
	v, err := takeInventory(ctx, s, path.Join(cluster, r.String())+"/", reading{})
	if err != nil {
		return nil, err
	}
	l, err := v.read(ctx, s, k, reading{})
	if err != nil {
		return nil, err
	}
	st := &standing{}
	for i := range l.Entries {
		if l.Entries[i].Err == nil {
			st.done = &l.Entries[i]
			return st, nil
		}
	}
	var last Object
	for _, o := range l.claims {
		if in, at, n, ok := splitClaim(o.Name); ok && in == cluster && at == r && n > st.claim {
			st.claim, last = n, o
		}
	}
	if st.claim == 0 {
		return st, nil
	}
	c, err := readClaim(ctx, s, k, last.Name)
	switch {
	case err != nil:
		return nil, err
	case c != nil && c.Cluster == cluster && c.Round == r && c.Number == st.claim && nodeName.MatchString(c.Node):
		st.holder, st.since = c.Node, last.Time
	}
	return st, nil // one that isn't this cluster's is nobody's
}

// readClaim is nil without an error for what isn't a claim of this cluster.
func readClaim(ctx context.Context, s Store, k Key, name string) (*claim, error) {
	var data []byte
	err := patient(ctx, recordsTimeout, func(ctx context.Context, _ func()) error {
		r, err := s.Get(ctx, name)
		if err != nil {
			return err
		}
		defer r.Close()
		data, err = io.ReadAll(io.LimitReader(r, maxClaim))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	raw, err := k.open(ofClaim, data)
	if err != nil {
		return nil, nil
	}
	var c claim
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, nil
	}
	return &c, nil
}

// take claims a round for a node, after all claims that are there. It says no
// when another node was faster. Where all names of claims are taken, which no
// cluster does, the round is taken without: who can write there can't end the
// backups by that.
func (st *standing) take(ctx context.Context, s Store, k Key, c claim) (bool, error) {
	if st.claim >= maxClaims {
		st.claim = 0
		return true, nil
	}
	c.Number = st.claim + 1
	raw, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	data, err := k.authenticate(ofClaim, raw)
	if err != nil {
		return false, err
	}
	name := claimName(c.Cluster, c.Round, c.Number)
	err = patient(ctx, recordsTimeout, func(ctx context.Context, _ func()) error {
		return s.Put(ctx, name, strings.NewReader(string(data)), int64(len(data)))
	})
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err == nil {
		st.claim = c.Number
	}
	return err == nil, err
}

// OnCalendar is the schedule as systemd's timers have it, one expression or
// more.
func (s Schedule) OnCalendar() []string {
	every, at := time.Duration(s.Every), time.Duration(s.At)
	switch {
	case every == 0:
		return nil
	case every < time.Hour && time.Hour%every == 0:
		return []string{fmt.Sprintf("*-*-* *:%02d/%d:00 UTC", at/time.Minute, every/time.Minute)}
	case every == time.Hour:
		return []string{fmt.Sprintf("*-*-* *:%02d:00 UTC", at/time.Minute)}
	case every%time.Hour == 0:
		var hours []string
		for h := at / time.Hour; h < 24; h += every / time.Hour {
			hours = append(hours, fmt.Sprintf("%02d", h))
		}
		return []string{fmt.Sprintf("*-*-* %s:%02d:00 UTC", strings.Join(hours, ","), at%time.Hour/time.Minute)}
	}
	var all []string
	for t := at; t < 24*time.Hour; t += every {
		all = append(all, fmt.Sprintf("*-*-* %s:00 UTC", Clock(t)))
	}
	return slices.Clip(all)
}
