//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"etcd-rewind/e2e/memory"
)

// found is how long everything has been crash-looping when somebody comes.
const found = 90 * time.Second

// undone is the way back from a restore of a healthy node.
const undone = "etcd-rewind undo"

// recoveries measures a control plane that is dead when somebody comes: from the
// first command until a client reads the snapshot's data; by hand and by
// etcd-rewind, alternating. And the outage of an undo, beside the one of the
// restore before it, on a healthy node.
func (b *bench) recoveries(ctx context.Context, size string, n int, dead bool, keep func(what string, i int, r result, err error) error) error {
	if n == 0 {
		return nil
	}
	if err := b.fill(ctx, size); err != nil {
		return err
	}
	for i := range n {
		for _, w := range []way{ways[0], rewind} {
			if !dead {
				break
			}
			r, err := b.recovery(ctx, w, size)
			if err := keep("dead", i, r, err); err != nil {
				return err
			}
		}
		if err := b.pause(ctx, calm); err != nil {
			return err
		}
		there, err := b.run(ctx, rewind, size)
		if err := keep("healthy", i, there, err); err != nil {
			return err
		}
		back, err := b.undo(ctx, size)
		if err := keep("healthy", i, back, err); err != nil {
			return err
		}
	}
	return nil
}

// recovery kills the control plane, waits as long as it takes until somebody
// comes, and restores.
func (b *bench) recovery(ctx context.Context, w way, size string) (result, error) {
	r := result{way: w.name, size: size, dead: true}
	if err := b.pause(ctx, calm); err != nil {
		return r, err
	}
	if err := b.mark(ctx, "live"); err != nil {
		return r, err
	}
	if err := b.mirrored(ctx); err != nil {
		return r, err
	}
	// Both of bbolt's meta pages: etcd panics when it opens the file.
	kill := `D=$(sed -n 's#.*path: \(/var/lib/etcd.*\)#\1#p' /etc/kubernetes/manifests/etcd.yaml | head -1)
for p in $(pgrep -x etcd); do [ "$(readlink /proc/$p/ns/net)" = "$(readlink /proc/self/ns/net)" ] && kill -9 $p; done
dd if=/dev/zero of=$D/member/snap/db bs=4096 count=2 conv=notrunc status=none`
	if out, err := b.node.Command(ctx, "bash", "-c", kill).CombinedOutput(); err != nil {
		return r, fmt.Errorf("damage etcd: %w: %s", err, out)
	}
	select {
	case <-ctx.Done():
		return r, ctx.Err()
	case <-time.After(found):
	}
	if _, err := memory.Settle(2 << 30); err != nil {
		return r, err
	}
	b.serial++
	watching, stop := context.WithCancel(ctx)
	defer stop()
	seen := make(chan outage, 1)
	go func() { seen <- b.watch(watching) }()
	begun := time.Now()
	var err error
	if w.script != "" {
		err = b.script(ctx, w, b.shot(size))
	} else {
		_, err = b.rewind(ctx, w, b.shot(size), &r)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", w.name, err)
	}
	select {
	case o := <-seen:
		r.outage = o.to.Sub(begun)
	case <-time.After(time.Minute):
		return r, fmt.Errorf("%s: the restored object doesn't come back", w.name)
	}
	return r, nil
}

// mirrored waits until the API knows kubelet's pods, as in any cluster that is
// older than some minutes. Before that kubelet waits for a dead API server.
func (b *bench) mirrored(ctx context.Context) error {
	for range 180 {
		pods, err := b.node.Kubectl(ctx, "--namespace", "kube-system", "get", "pods", "--output", "name")
		if err == nil && strings.Count(pods, "pod/") >= 4 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return errors.New("the API doesn't know the pods of the control plane")
}

// undo reverts the last restore, which found the marker "live".
func (b *bench) undo(ctx context.Context, size string) (result, error) {
	r := result{way: undone, size: size}
	if err := b.node.Ready(ctx); err != nil {
		return r, err
	}
	if _, err := memory.Settle(2 << 30); err != nil {
		return r, err
	}
	select {
	case <-ctx.Done():
		return r, ctx.Err()
	case <-time.After(calm):
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	seen := make(chan outage, 1)
	go func() { seen <- b.watchFor(watching, "live") }()
	if _, err := b.tool(ctx, []string{"undo", "--yes"}, &r); err != nil {
		return r, fmt.Errorf("undo: %w", err)
	}
	select {
	case o := <-seen:
		r.outage = o.length()
	case <-time.After(time.Minute):
		return r, errors.New("undo: the old object doesn't come back")
	}
	return r, nil
}

// recoveryTable is what was measured, ratio to by hand first.
func recoveryTable(all []result) string {
	var b strings.Builder
	pick := func(way, size string, dead bool) (took []time.Duration) {
		for _, r := range all {
			if r.way == way && r.size == size && r.dead == dead {
				took = append(took, r.outage)
			}
		}
		return took
	}
	b.WriteString("A dead control plane, from the first command until a client reads the snapshot's data:\n\n")
	b.WriteString("| way | database | median, × by hand | goal | median | each |\n|---|---|---|---|---|---|\n")
	for _, size := range []string{small, large} {
		hand := median(pick(ways[0].name, size, true))
		for _, w := range []way{rewind, ways[0]} {
			took := pick(w.name, size, true)
			if len(took) == 0 || hand == 0 {
				continue
			}
			goal := ""
			if w.name == rewind.name {
				goal = within(median(took), hand, map[string]float64{small: 0.25, large: 0.35}[size])
			}
			fmt.Fprintf(&b, "| %s | %s | %.2f | %s | %.1f s | %s |\n", w.name, size, ratio(median(took), hand), goal, median(took).Seconds(), seconds(took))
		}
	}
	b.WriteString("\nA healthy one, as long as the API doesn't answer:\n\n")
	b.WriteString("| way | database | median, × the restore | goal | median | each |\n|---|---|---|---|---|---|\n")
	for _, size := range []string{small, large} {
		there := median(pick(rewind.name, size, false))
		for _, name := range []string{undone, rewind.name} {
			took := pick(name, size, false)
			if len(took) == 0 || there == 0 {
				continue
			}
			goal := ""
			if name == undone {
				goal = within(median(took), there, 1.5)
			}
			fmt.Fprintf(&b, "| %s | %s | %.2f | %s | %.1f s | %s |\n", name, size, ratio(median(took), there), goal, median(took).Seconds(), seconds(took))
		}
	}
	for _, part := range []struct {
		title, way string
		dead       bool
	}{{"restore of a dead one", rewind.name, true}, {"restore of a healthy one", rewind.name, false}, {"undo", undone, false}} {
		at := func(size string) []phase { return phases(all, part.way, size, part.dead) }
		little, big := at(small), at(large)
		titles := little
		if len(titles) == 0 {
			titles = big
		}
		if len(titles) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\nWhere the time goes, %s, medians:\n\n| step | small | 2 GB |\n|---|---|---|\n", part.title)
		for i, p := range titles {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", p.title, nth(little, i), nth(big, i))
		}
	}
	return b.String()
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func within(have, against time.Duration, limit float64) string {
	if ratio(have, against) > limit {
		return fmt.Sprintf("%.2f: **exceeded**", limit)
	}
	return fmt.Sprintf("%.2f: holds", limit)
}

func seconds(all []time.Duration) string {
	var s []string
	for _, d := range all {
		s = append(s, fmt.Sprintf("%.1f", d.Seconds()))
	}
	return strings.Join(s, " ")
}

// machine is the state of what the figures depend on: a kernel that gives its
// host free memory back, or evicts what nobody uses, makes whatever starts slower.
func machine() string {
	read := func(path, what string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return what + ": not there"
		}
		return what + ": " + strings.TrimSpace(string(data))
	}
	return strings.Join([]string{
		read("/proc/loadavg", "load"),
		read("/proc/sys/kernel/osrelease", "kernel"),
		read("/sys/module/page_reporting/parameters/min_free_ms", "free memory goes to the host after, in ms (page_reporting, 0 is at once)"),
		read("/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds", "DAMON's threads that evict what nobody uses"),
		read("/sys/kernel/mm/transparent_hugepage/enabled", "huge pages"),
	}, "; ")
}
