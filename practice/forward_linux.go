package practice

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// portsFD is where the first process inside the node has the socket over which
// it hands out its listeners.
const portsFD = 3

// bindInside takes each port of this network namespace's own loopback.
func bindInside(ports []int) ([]int, error) {
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("loopback: %w", err)
	}
	lo, err := unix.NewIfreq("lo")
	if err == nil {
		lo.SetUint16(unix.IFF_UP) // with it come its addresses
		err = unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, lo)
	}
	if err := errors.Join(err, unix.Close(control)); err != nil {
		return nil, fmt.Errorf("loopback: %w", err)
	}
	var fds []int
	for _, port := range ports {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil { // connections of before don't keep it from listening again
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		}
		if err != nil {
			return nil, fmt.Errorf("port %d: %w", port, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// forwarder carries connections from inside the node to its processes, which
// listen on other ports of the machine. A socket belongs to the network
// namespace in which it was made, whoever has it.
type forwarder struct {
	from net.Conn // who sends the sockets
	to   []int
	up   func(port int) bool // whether somebody may listen there

	mu   sync.Mutex
	open map[io.Closer]bool // nil once it is closed
	done sync.WaitGroup
	end  chan struct{}
}

// forward begins to serve the sockets that come over from.
func forward(from *os.File, to []int, up func(port int) bool) (*forwarder, error) {
	conn, err := net.FileConn(from)
	if err != nil {
		return nil, err
	}
	f := &forwarder{from: conn, to: to, up: up, open: map[io.Closer]bool{conn: true}, end: make(chan struct{})}
	f.done.Go(f.take)
	return f, nil
}

// close ends all connections. Safe to call twice.
func (f *forwarder) close() {
	f.mu.Lock()
	if f.open != nil {
		close(f.end)
	}
	for c := range f.open {
		_ = c.Close()
	}
	f.open = nil
	f.mu.Unlock()
	f.done.Wait()
}

// hold has close close c; where that has been called already it is closed here.
func (f *forwarder) hold(c io.Closer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		_ = c.Close()
		return false
	}
	f.open[c] = true
	return true
}

func (f *forwarder) drop(c io.Closer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
	_ = c.Close()
}

// take gets the sockets. None come when the program wasn't started.
func (f *forwarder) take() {
	defer f.drop(f.from)
	from, ok := f.from.(*net.UnixConn)
	if !ok {
		return
	}
	oob := make([]byte, unix.CmsgSpace(4*len(f.to)))
	_, n, _, _, err := from.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != len(f.to) {
		return
	}
	for i, fd := range fds {
		socket := os.NewFile(uintptr(fd), "port")
		if l, err := net.FileListener(socket); err == nil && f.hold(l) {
			f.done.Go(func() { f.serve(l, socket, f.to[i]) })
		}
	}
}

const lookPeriod = 50 * time.Millisecond

// serve listens inside as long as the node's process runs, so that a connection
// is refused when it is gone.
func (f *forwarder) serve(l net.Listener, socket *os.File, port int) {
	defer f.drop(l)
	defer func() { _ = socket.Close() }()
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return
	}
	for listens := false; ; {
		switch up := f.up(port); {
		case up && !listens:
			listens = unix.Listen(int(socket.Fd()), 128) == nil
		case !up && listens:
			listens = unix.Shutdown(int(socket.Fd()), unix.SHUT_RD) != nil
		}
		if !listens {
			select {
			case <-f.end:
				return
			case <-time.After(lookPeriod):
			}
			continue
		}
		_ = tcp.SetDeadline(time.Now().Add(lookPeriod))
		c, err := tcp.Accept()
		switch {
		case err == nil && f.hold(c):
			f.done.Go(func() { f.carry(c, port) })
		case err == nil, errors.Is(err, net.ErrClosed):
			return
		}
	}
}

func (f *forwarder) carry(inside net.Conn, port int) {
	defer f.drop(inside)
	outside, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
	if err != nil || !f.hold(outside) {
		_ = inside.(*net.TCPConn).SetLinger(0)
		return
	}
	defer f.drop(outside)
	over := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{inside, outside}, {outside, inside}} {
		go func() {
			_, _ = io.Copy(way[1], way[0])
			_ = way[1].(*net.TCPConn).CloseWrite()
			over <- struct{}{}
		}()
	}
	<-over
	<-over
}
