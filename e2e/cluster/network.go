//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// All nodes hang on one bridge, which also has the machine on it.
const (
	bridge         = "etcd-rewind0"
	bridgeAddress  = "10.77.0.1"
	addressPattern = "10.77.0.%d"
	firstAddress   = 11
	lastAddress    = 250
)

// netns is the path of the node's network namespace.
func (n *Node) netns() string { return "/var/run/netns/" + n.netnsName() }

func (n *Node) netnsName() string { return "etcd-rewind-" + n.Name }

// veth is the machine's end of the node's cable. An interface's name has 15
// characters at most, so it cannot be the node's.
func (n *Node) veth() string {
	sum := fnv.New32a()
	sum.Write([]byte(n.Name))
	return fmt.Sprintf("erw%08x", sum.Sum32())
}

// createNetwork makes the node's network namespace and puts it on the bridge.
func (n *Node) createNetwork(ctx context.Context) error {
	return withLock(func() error {
		if _, err := os.Stat("/sys/class/net/" + bridge); errors.Is(err, fs.ErrNotExist) {
			err := ip(ctx,
				"link add "+bridge+" type bridge",
				"address add "+bridgeAddress+"/24 dev "+bridge,
				"link set "+bridge+" up")
			if err != nil {
				return err
			}
		}
		if n.record.VM {
			return ip(ctx, "tuntap add "+n.veth()+" mode tap", "link set "+n.veth()+" master "+bridge+" up")
		}
		inside := "-netns " + n.netnsName() + " "
		return ip(ctx,
			"netns add "+n.netnsName(),
			"link add "+n.veth()+" type veth peer name eth0 netns "+n.netnsName(),
			"link set "+n.veth()+" master "+bridge+" up",
			inside+"link set lo up",
			inside+"address add "+n.Address+"/24 dev eth0",
			inside+"link set eth0 up",
			inside+"route add default via "+bridgeAddress)
	})
}

// LinkDown pulls the node's cable: nothing gets out of the node or into it any
// more, and connections hang until whoever has them gives up. The node keeps its
// address and reaches itself by it; Command and all that is built on it go on
// working, for they need no network. Safe to call twice.
func (n *Node) LinkDown(ctx context.Context) error {
	return ip(ctx, "link set "+n.veth()+" down")
}

// LinkUp plugs the node's cable in again. Safe to call twice.
func (n *Node) LinkUp(ctx context.Context) error {
	return ip(ctx, "link set "+n.veth()+" up")
}

// removeNetwork removes what createNetwork has made, and the bridge with the
// last node on it. Nothing of it need be there.
func (n *Node) removeNetwork(ctx context.Context) error {
	return withLock(func() error {
		var errs []error
		if _, err := os.Stat("/sys/class/net/" + n.veth()); err == nil {
			errs = append(errs, ip(ctx, "link delete "+n.veth()))
		}
		if _, err := os.Stat(n.netns()); err == nil {
			errs = append(errs, ip(ctx, "netns delete "+n.netnsName()))
		}
		ports, err := filepath.Glob("/sys/class/net/" + bridge + "/brif/*")
		errs = append(errs, err)
		if _, err := os.Stat("/sys/class/net/" + bridge); err == nil && len(ports) == 0 {
			errs = append(errs, ip(ctx, "link delete "+bridge))
		}
		return errors.Join(errs...)
	})
}

// ip runs commands of iproute2, up to the first that fails.
func ip(ctx context.Context, commands ...string) error {
	for _, command := range commands {
		if _, err := run(exec.CommandContext(ctx, "ip", strings.Fields(command)...)); err != nil {
			return err
		}
	}
	return nil
}

// DialContext connects from inside the node's network, where 127.0.0.1 is the
// node's. The address must be numeric: names are looked up on other threads.
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if n.record.VM {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, address)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// Namespaces are a thread's: this goroutine keeps its thread until that is
		// back home. Should it not get there, the thread ends with the goroutine.
		runtime.LockOSThread()
		conn, err := func() (net.Conn, error) {
			home, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return nil, err
			}
			defer home.Close()
			namespace, err := os.Open(n.netns())
			if err != nil {
				return nil, err
			}
			defer namespace.Close()
			if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, fmt.Errorf("enter %s: %w", n.netns(), err)
			}
			var dialer net.Dialer
			conn, err := dialer.DialContext(ctx, network, address)
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			return conn, err
		}()
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
