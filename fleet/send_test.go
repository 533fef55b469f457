package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
)

// What snapshots are made of.
const (
	text    = "objects as text"
	encoded = "base64 of what is compressed, as releases of Helm are"
	noise   = "what is encrypted"
)

func bytesOf(size int, what string) (data []byte) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := 0; len(data) < size; i++ {
		switch what {
		case text:
			data = fmt.Appendf(data, `{"kind":"ConfigMap","metadata":{"name":"app-%d","uid":"%x","namespace":"shop"},"data":{"key":"%x"}}`, i, random.Uint64(), random.Uint64())
		case encoded:
			r := random.Uint32()
			data = base64.StdEncoding.AppendEncode(data, []byte{byte(r), byte(r >> 8), byte(r >> 16)})
		case noise:
			data = append(data, byte(random.Uint32()))
		}
	}
	return data[:size]
}

// aSnapshot is a file of so many bytes.
func aSnapshot(t testing.TB, size int, what string) (*snapshot.Info, []byte) {
	t.Helper()
	data := bytesOf(size, what)
	path := filepath.Join(t.TempDir(), "before.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	info := &snapshot.Info{Name: "before.db", Path: path, Size: int64(size), Revision: 700, SHA256: hex.EncodeToString(sum[:])}
	for _, name := range []string{"cp1", "cp2", "cp3"} {
		info.Members = append(info.Members, snapshot.Member{Name: name})
	}
	return info, data
}

// wire counts what is sent to an agent, and cuts the connection off after some
// pieces, as often as it is told to.
type wire struct {
	mu     sync.Mutex
	pieces []request
	cuts   []int // after how many pieces of a connection
}

func (w *wire) stand(cut func()) func(io.Reader, io.Writer, func(io.Reader, io.Writer)) {
	return func(in io.Reader, out io.Writer, agent func(io.Reader, io.Writer)) {
		n := 0
		relay(in, out, agent, func(r request) bool {
			if r.Do != doPiece {
				return true
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.cuts) > 0 && n == w.cuts[0] {
				w.cuts = w.cuts[1:]
				cut()
			} else {
				w.pieces = append(w.pieces, r)
			}
			n++
			return true
		}, func(line []byte) []byte { return line })
	}
}

func (w *wire) at() (all []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.pieces {
		all = append(all, p.At/pieceSize)
	}
	return all
}

func (n *fakeNode) has(t *testing.T, info *snapshot.Info, data []byte) {
	t.Helper()
	path, err := n.Place(info.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, data) {
		t.Errorf("%s has %d bytes of %d: %v", n.name, len(have), len(data), err)
	}
	if _, err := os.Lstat(path + partly); err == nil {
		t.Errorf("%s: a part is left", n.name)
	}
}

func discovered(t *testing.T, d Dialer, info *snapshot.Info) *Conductor {
	t.Helper()
	c := conductor(t, d)
	if _, _, err := c.Discover(t.Context(), restore.Want{Info: info}); err != nil {
		t.Fatal(err)
	}
	return c
}

// Twice the connection to one node is cut. Nothing is sent twice, and nobody is
// asked; the other node doesn't notice.
func TestASnapshotIsSentOnFromWhereItWasCut(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	d := w.pipes(t, "cp1")
	info, data := aSnapshot(t, 7*pieceSize+99, text)
	cp2, cp3 := &wire{cuts: []int{3, 2}}, &wire{}
	d.between["cp2"], d.between["cp3"] = cp2.stand(func() { d.cut("cp2") }), cp3.stand(nil)
	c := discovered(t, d, info)
	last := map[string]int64{}
	var mu sync.Mutex
	if err := c.Send(t.Context(), func(node string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if done < last[node] {
			t.Errorf("%s: %d after %d", node, done, last[node])
		}
		last[node] = done
	}); err != nil {
		t.Fatal(err)
	}
	w.node("cp2").has(t, info, data)
	w.node("cp3").has(t, info, data)
	want := []int64{0, 1, 2, 3, 4, 5, 6, 7}
	if have := cp2.at(); !slices.Equal(have, want) {
		t.Errorf("cp2 was sent the pieces %v", have)
	}
	if have := cp3.at(); !slices.Equal(have, want) {
		t.Errorf("cp3 was sent the pieces %v", have)
	}
	if d.dials["cp2"] != 3 || d.dials["cp3"] != 1 || c.nodes[1].facts == nil {
		t.Errorf("dialled %v", d.dials)
	}
}

// A node that stays away is given up, and what it has of the snapshot stays for the
// next try.
func TestASnapshotIsSentOnByTheNextSession(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	d := w.pipes(t, "cp1")
	info, data := aSnapshot(t, 5*pieceSize, noise)
	cp2 := &wire{cuts: []int{2}}
	d.between["cp2"] = cp2.stand(func() { d.lose("cp2") })
	c := discovered(t, d, info)
	if err := c.Send(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "cp2") {
		t.Fatal(err)
	}
	d.find("cp2")
	if err := discovered(t, d, info).Send(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	w.node("cp2").has(t, info, data)
	if have := cp2.at(); !slices.Equal(have, []int64{0, 1, 2, 3, 4}) {
		t.Errorf("cp2 was sent the pieces %v", have)
	}
}

// What lies there of an earlier try is taken for what it is.
func TestWhatHasArrivedIsHeldAgainstTheSnapshot(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, part string, data []byte)
		first int64 // the piece that is sent first; -1 when none is
	}{
		{"as it is", func(t *testing.T, part string, data []byte) { put(t, part, data[:2*pieceSize], 0o600) }, 2},
		{"with half a piece", func(t *testing.T, part string, data []byte) { put(t, part, data[:2*pieceSize+7], 0o600) }, 2},
		{"whole", func(t *testing.T, part string, data []byte) { put(t, part, data, 0o600) }, -1},
		{"whole, altered", func(t *testing.T, part string, data []byte) { put(t, part, altered(data), 0o600) }, 0},
		{"altered", func(t *testing.T, part string, data []byte) { put(t, part, altered(data)[:2*pieceSize], 0o600) }, 0},
		{"too long", func(t *testing.T, part string, data []byte) { put(t, part, append(slices.Clone(data), 1), 0o600) }, 0},
		{"open to others", func(t *testing.T, part string, data []byte) { put(t, part, data[:2*pieceSize], 0o644) }, 0},
		{"a link", func(t *testing.T, part string, data []byte) {
			put(t, part+".elsewhere", data[:2*pieceSize], 0o600)
			if err := os.Symlink(part+".elsewhere", part); err != nil {
				t.Fatal(err)
			}
		}, 0},
		{"a pipe", func(t *testing.T, part string, _ []byte) {
			if err := syscall.Mkfifo(part, 0o600); err != nil {
				t.Fatal(err)
			}
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newFakeWorld(t, "cp1", "cp2", "cp3")
			d := w.pipes(t, "cp1")
			info, data := aSnapshot(t, 3*pieceSize+5, text)
			cp2 := &wire{}
			d.between["cp2"] = cp2.stand(nil)
			path, err := w.node("cp2").Place(info.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, path+partly, data)
			// Of another snapshot, that nobody sends any more.
			other := filepath.Join(filepath.Dir(path), "snapshot-0123456789abcdef.db"+partly)
			put(t, other, []byte("x"), 0o600)
			if err := discovered(t, d, info).Send(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			w.node("cp2").has(t, info, data)
			have := cp2.at()
			if tt.first < 0 && len(have) > 0 || tt.first >= 0 && (len(have) == 0 || have[0] != tt.first) {
				t.Errorf("the pieces %v were sent", have)
			}
			if _, err := os.Lstat(other); err == nil {
				t.Error("what has arrived of another snapshot is kept")
			}
		})
	}
}

func put(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}

func altered(data []byte) []byte {
	data = slices.Clone(data)
	data[100] ^= 1
	return data
}

// An agent whose connection was cut may not know yet.
func TestTwoAgentsDontWriteToOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x"+partly)
	first, err := openPart(t.Context(), path, func() {})
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{})
	var once sync.Once
	go func() {
		<-waits
		_ = os.Rename(path, path+".whole") // it was finished
		_ = first.Close()
	}()
	looks := 0
	second, err := openPart(t.Context(), path, func() {
		if looks++; looks == 2 {
			once.Do(func() { close(waits) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	a, _ := second.Stat()
	if b, err := os.Lstat(path); err != nil || !os.SameFile(a, b) || looks < 2 {
		t.Errorf("%v, after %d looks", err, looks)
	}
}

// Pieces that wait for the connection are compressed, once for all nodes, and only
// where that makes them smaller.
func TestWhatWaitsForTheConnectionIsCompressed(t *testing.T) {
	for what, most := range map[string]int{text: pieceSize / 2, encoded: pieceSize / 5 * 4, noise: 0} {
		data := bytesOf(4*pieceSize, what)
		o, err := newOutgoing(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		var all [2][]piece
		for i := range all {
			queue := make(chan piece, ahead) // nobody takes any
			if err := o.pieces(t.Context(), 0, queue); err != nil {
				t.Fatal(err)
			}
			close(queue)
			for p := range queue {
				all[i] = append(all[i], p)
			}
		}
		for i, p := range all[0] {
			packed := i >= ahead/2 && most > 0
			if (p.line.Plain > 0) != packed || packed && (p.line.Bytes > most || &p.data[0] != &all[1][i].data[0]) {
				t.Errorf("%s, piece %d: %+v", what, i, p.line)
			}
		}
		in := receiving(t, int64(len(data)))
		for _, p := range all[0] {
			in.in = p.data
			if n, err := in.take(p.line); err != nil {
				t.Fatal(err)
			} else {
				in.got += int64(n)
			}
		}
		if have, err := os.ReadFile(in.f.Name()); err != nil || !bytes.Equal(have, data) {
			t.Errorf("%s: something else arrives: %v", what, err)
		}
	}
}

func receiving(t *testing.T, size int64) *putting {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "x"+partly))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	unzip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(pieceSize))
	if err != nil {
		t.Fatal(err)
	}
	return &putting{order: putOrder{Size: size}, f: f, sum: sha256.New(), unzip: unzip}
}

// What is no piece, or not the next, ends the connection, and writes nothing.
func TestPiecesThatCantBe(t *testing.T) {
	zip, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := zip.EncodeAll(make([]byte, 64<<20), nil)
	some := zip.EncodeAll([]byte("some bytes"), nil)
	for _, tt := range []struct {
		name string
		line request
		data []byte
	}{
		{"too far", request{At: 5}, []byte("abc")},
		{"twice", request{At: 2}, []byte("abc")},
		{"too long", request{At: 3}, make([]byte, 8)},
		{"a bomb", request{At: 3, Plain: 5}, bomb},
		{"a bomb that says so", request{At: 3, Plain: pieceSize}, bomb},
		{"shorter than it says", request{At: 3, Plain: 100}, some},
		{"not compressed", request{At: 3, Plain: 5}, []byte("abc")},
	} {
		p := receiving(t, 10)
		p.in = []byte("abc")
		if n, err := p.take(request{}); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		p.got, p.in = 3, tt.data
		if _, err := p.take(tt.line); err == nil {
			t.Errorf("%s: it is taken", tt.name)
		}
		if info, err := p.f.Stat(); err != nil || info.Size() != 3 {
			t.Errorf("%s: %v %v", tt.name, info, err)
		}
	}
	a := &agent{}
	for _, r := range []request{{}, {Bytes: -1}, {Bytes: pieceSize + 1}, {Bytes: 3, Plain: -1}, {Bytes: 3, Plain: pieceSize + 1}} {
		if a.piece(r, strings.NewReader("abc")) == nil {
			t.Errorf("%+v is taken", r)
		}
	}
}

// slow is a connection of so many bytes a second, with as much on its way as a
// remote shell and the kernel hold.
type slow struct {
	io.WriteCloser
	perSecond float64
	free      time.Time
}

func (s *slow) Write(p []byte) (int, error) {
	const underway = 20 * time.Millisecond
	now := time.Now()
	if s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(time.Duration(float64(len(p)) / s.perSecond * float64(time.Second)))
	time.Sleep(s.free.Sub(now) - underway)
	return s.WriteCloser.Write(p)
}

// BenchmarkSend sends a snapshot to two nodes over links of their own, as fast as
// each is: raw is what the link alone would take.
func BenchmarkSend(b *testing.B) {
	for _, rate := range []float64{10e6, 50e6, 125e6, 0} {
		name := fmt.Sprintf("%.0fMBps", rate/1e6)
		if rate == 0 {
			name = "no_limit"
		}
		b.Run(name, func(b *testing.B) {
			w := &fakeWorld{}
			for _, n := range []string{"cp1", "cp2", "cp3"} {
				w.nodes = append(w.nodes, &fakeNode{w: w, name: n, dir: b.TempDir(), api: "old", etcd: "old"})
			}
			d := &pipes{w: w, local: "cp1", away: map[string]error{}, conns: map[string][]func(){}, dials: map[string]int{}}
			info, _ := aSnapshot(b, 256<<20, text)
			for range b.N {
				c := &Conductor{Dialer: throttled{d, rate}, Pace: RealPace, Version: "test", Answers: func(context.Context, string) bool { return false }}
				if _, _, err := c.Discover(b.Context(), restore.Want{Info: info}); err != nil {
					b.Fatal(err)
				}
				begun := time.Now()
				if err := c.Send(b.Context(), nil); err != nil {
					b.Fatal(err)
				}
				took := time.Since(begun).Seconds()
				b.ReportMetric(float64(info.Size)/1e6/took, "MB/s_each")
				if rate > 0 {
					b.ReportMetric(took/(float64(info.Size)/rate), "x_raw")
				}
				_ = c.Close()
				for _, n := range w.nodes {
					path, _ := n.Place(info.SHA256)
					_ = os.Remove(path)
				}
			}
			d.all.Wait()
		})
	}
}

type throttled struct {
	*pipes
	rate float64
}

func (d throttled) Dial(ctx context.Context, host string) (*Conn, error) {
	c, err := d.pipes.Dial(ctx, host)
	if err == nil && d.rate > 0 {
		c.In = &slow{WriteCloser: c.In, perSecond: d.rate}
	}
	return c, err
}
