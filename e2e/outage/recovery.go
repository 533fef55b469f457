//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
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
func (b *bench) recoveries(ctx context.Context, size string, n int, dead bool, keep kept) error {
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
	seen := b.watch(watching, "restored")
	begun := time.Now()
	var err error
	var t *told
	if w.script != "" {
		err = b.script(ctx, w, b.shot(size))
	} else {
		t, err = b.tool(ctx, append([]string{"restore", b.shot(size)}, w.args...), &r)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", w.name, err)
	}
	all, err := seen(back)
	if err != nil {
		return r, fmt.Errorf("%s: %w", w.name, err)
	}
	o := outage{begun, all[0].to}
	r.outage = o.length()
	if t == nil {
		return r, nil
	}
	r.phases = append([]phase{{"(reads, checks and plans)", t.begun.Sub(begun)}}, r.phases...)
	b.owners(ctx, &r, t, o, all, func(n *nodeTold, m moments, to time.Time) []mark { return deadMarks(t, n, m, to) })
	return r, nil
}

// mirrored waits until the API knows kubelet's pods, as in any cluster that is
// older than some minutes. Before that kubelet waits for a dead API server.
func (b *bench) mirrored(ctx context.Context) error {
	from, err := b.node.KubeletLogEnd(ctx)
	if err != nil {
		return err
	}
	var pods string
	for range 180 {
		pods, err = b.node.Kubectl(ctx, "--namespace", "kube-system", "get", "pods", "--output", "name")
		if err == nil && strings.Count(pods, "pod/") >= 4 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	log, _ := b.node.KubeletLogFrom(ctx, from)
	return errors.Join(fmt.Errorf("the API doesn't know the pods of the control plane: %q; kubelet says\n%s", pods, log[max(0, len(log)-4<<10):]), err)
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
	seen := b.watch(watching, "live")
	t, err := b.tool(ctx, []string{"undo", "--yes"}, &r)
	if err != nil {
		return r, fmt.Errorf("undo: %w", err)
	}
	all, err := seen(time.Minute)
	if err != nil {
		return r, fmt.Errorf("undo: %w", err)
	}
	o := all[0]
	r.outage = o.length()
	b.owners(ctx, &r, t, o, all, undoMarks)
	return r, nil
}
