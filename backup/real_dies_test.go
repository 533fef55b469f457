//go:build e2e && linux

package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// mortal is a real server, and what it holds of uploads that nobody has finished.
type mortal struct {
	*server
	Store
	left func(t *testing.T) []string
}

// mortals are one of each kind, in a directory.
var mortals = map[string]func(t *testing.T, dir string) mortal{
	"a bucket": func(t *testing.T, dir string) mortal {
		location, data, gateway := realGateway(t, "plain", dir)
		s := openReal(t, location).(*S3)
		s.part = 5 << 20
		return mortal{gateway, s, func(t *testing.T) (left []string) {
			t.Helper()
			c, err := s.core()
			if err != nil {
				t.Fatal(err)
			}
			uploads, err := c.ListMultipartUploads(t.Context(), "plain", "", "", "", "", 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range uploads.Uploads {
				left = append(left, "upload of "+u.Key)
			}
			return append(left, files(t, data, func(name string) bool { return strings.Contains(name, "/.sgwtmp/multipart/") })...)
		}}
	},
	"another host": func(t *testing.T, dir string) mortal {
		backups, config, host := realSSHD(t, dir)
		s := openReal(t, "sftp://store"+backups+"?config="+config).(*SFTP)
		t.Cleanup(s.links.close)
		return mortal{host, s, func(t *testing.T) []string {
			t.Helper()
			return files(t, backups, func(name string) bool { return strings.HasPrefix(path.Base(name), ".") })
		}}
	},
}

// files are those below a directory that have something in them.
func files(t *testing.T, dir string, is func(name string) bool) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !is(name) {
			return err
		}
		st, err := e.Info()
		if err == nil && st.Size() > 0 {
			all = append(all, fmt.Sprintf("%s, %d bytes", strings.TrimPrefix(name, dir), st.Size()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// savesMuch is an etcd whose database doesn't get smaller.
func savesMuch(size int) func(context.Context, snapshot.SaveRequest) (*snapshot.Info, error) {
	data := make([]byte, size)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	sum := sha256.Sum256(data)
	return func(_ context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
		if err := os.WriteFile(req.Path, data, 0o600); err != nil {
			return nil, err
		}
		if err := req.Follow(bytes.NewReader(data)); err != nil {
			return nil, err
		}
		return &snapshot.Info{Size: int64(len(data)), Revision: 4711, Keys: 300, SHA256: hex.EncodeToString(sum[:]), KubeSystemUID: clusterA}, nil
	}
}

// unread says whether something has arrived for a server that it hasn't read.
func (s *server) unread() bool {
	text, _ := os.ReadFile("/proc/net/tcp")
	for line := range strings.Lines(string(text)) {
		// sl local_address rem_address st tx_queue:rx_queue …, in hexadecimal
		var slot, at, from, state, queues string
		if n, _ := fmt.Sscan(line, &slot, &at, &from, &state, &queues); n < 5 || state != "01" {
			continue
		}
		_, port, _ := strings.Cut(at, ":")
		_, waiting, _ := strings.Cut(queues, ":")
		if port == fmt.Sprintf("%04X", s.number()) && strings.Trim(waiting, "0") != "" {
			return true
		}
	}
	return false
}

func (s *server) number() (port int) {
	_, _ = fmt.Sscan(s.port, &port)
	return port
}

// The server of a location is killed while a backup is sent to it: it has stored the
// half of it, and more has arrived that it never reads.
func TestARealStoreThatDiesInTheMiddleOfAnUpload(t *testing.T) {
	for name, born := range mortals {
		t.Run(name, func(t *testing.T) {
			k, s, good := NewKey(), born(t, t.TempDir()), &Directory{Path: t.TempDir()}
			w := aTaking(t, "cp1", k, s.Store, good)
			w.Scheduled, w.Config.Keep, w.save = true, Policy{Last: 5}, savesMuch(16<<20)
			now := time.Now().Add(-3 * time.Hour)
			at := func(h int) { w.now = func() time.Time { return now.Add(time.Duration(h) * time.Hour) } }
			at(0)
			if res := take(t, w); !res.OK {
				t.Fatal(res.Error)
			}
			before := names(t, s.Store, "")

			at(1)
			var killed sync.WaitGroup
			var over atomic.Bool
			arrived := false
			die := sync.OnceFunc(func() {
				s.stop(t)
				killed.Go(func() {
					for arrived = s.unread(); !arrived && !over.Load(); arrived = s.unread() {
						time.Sleep(time.Millisecond)
					}
					s.kill(t)
				})
			})
			w.Tell = func(e Event) {
				if e.Step == StepSend && e.Location == s.Location() && e.Done > e.Total*3/4 {
					die()
				}
			}
			began := time.Now()
			res := take(t, w)
			took := time.Since(began)
			over.Store(true)
			killed.Wait()
			if !arrived {
				t.Fatalf("it wasn't killed in the middle: %+v", res)
			}
			t.Logf("after %.1f s: %s (%s)", took.Seconds(), res.Error.Cause, res.Error.Hint)
			if res.OK || res.Locations[0].OK || !strings.HasPrefix(res.Error.Cause, s.Location()+": ") || res.Error.Hint == "" || strings.Contains(res.Error.Cause, "uploadId") {
				t.Errorf("%+v", res)
			}
			if took > time.Minute {
				t.Errorf("it took %s", took)
			}
			if !res.Locations[1].OK || len(listed(t, good, k).Entries) != 2 {
				t.Errorf("the other location: %+v", res.Locations[1])
			}
			state, err := steps.ReadBackups(w.Dir)
			if err != nil || state.Last.OK || state.Locations[0].Failures != 1 || state.Locations[0].Good.After(now.Add(time.Minute)) {
				t.Errorf("%+v %v", state, err)
			}

			s.start(t)
			half := s.left(t)
			t.Logf("half: %v", half)
			if len(half) == 0 {
				t.Error("there is no half of a backup")
			}
			if l := listed(t, s.Store, k); len(l.Entries) != 1 || l.Entries[0].Err != nil || l.Entries[0].Round != w.Config.Schedule.Round(now) {
				t.Errorf("these count as backups: %+v", l.Entries)
			}

			w.Tell = nil
			at(2)
			if res := take(t, w); !res.OK {
				t.Error(res.Error)
			}
			if l := listed(t, s.Store, k); len(l.Entries) != 2 || l.Entries[0].Err != nil {
				t.Errorf("these count as backups then: %+v", l.Entries)
			}
			if left := s.left(t); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			dead := path.Join(clusterA, w.Config.Schedule.Round(now.Add(time.Hour)).String()) + "/"
			for name := range strings.FieldsSeq(names(t, s.Store, dead)) {
				if !strings.HasPrefix(name, dead+claimPrefix) {
					t.Errorf("%s is left", name)
				}
			}
			if then := names(t, s.Store, ""); !strings.HasPrefix(then, before) {
				t.Errorf("of the backup before is left: %s, there was %s", then, before)
			}
			nothingLeft(t, w)
		})
	}
}

// The disk of a location gets full while a backup is sent to it, and is emptied later.
func TestARealStoreThatIsFull(t *testing.T) {
	for name, born := range mortals {
		t.Run(name, func(t *testing.T) {
			k, disk, good := NewKey(), aDisk(t, 64<<20), &Directory{Path: t.TempDir()}
			s := born(t, disk)
			w := aTaking(t, "cp1", k, s.Store, good)
			w.save = savesMuch(16 << 20)
			ballast := filepath.Join(disk, "ballast")
			fill := sync.OnceFunc(func() {
				f, err := os.Create(ballast)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
					t.Error(err)
				}
			})
			w.Tell = func(e Event) {
				if e.Step == StepSend && e.Location == s.Location() && e.Done > e.Total*3/4 {
					fill()
				}
			}
			began := time.Now()
			res := take(t, w)
			t.Logf("after %.1f s: %s (%s)", time.Since(began).Seconds(), res.Error.Cause, res.Error.Hint)
			if res.OK || !res.Locations[1].OK || !strings.Contains(res.Error.Hint, "free some space there") || strings.Contains(res.Error.Cause, "are needed") {
				t.Errorf("%+v", res)
			}
			if l := listed(t, s.Store, k); len(l.Entries) > 0 {
				t.Errorf("these count as backups: %+v", l.Entries)
			}
			if left := s.left(t); len(left) > 0 {
				t.Errorf("left on the full disk: %v", left)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			w.Tell, w.now = nil, func() time.Time { return noon.Add(time.Hour) }
			if res := take(t, w); !res.OK || len(listed(t, s.Store, k).Entries) != 1 {
				t.Errorf("%+v", res)
			}
		})
	}
}

// aDisk is a file system of so many bytes.
func aDisk(t *testing.T, size int) string {
	t.Helper()
	at := t.TempDir()
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("mode=700,size=%d", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the server's end
		if err := syscall.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
	return at
}

// Two control planes run the timer in the same moment, with one key and one store:
// each round is one backup, taken by whoever was first, and both are content.
func TestTwoNodesAndOneRealStore(t *testing.T) {
	const rounds = 5
	for name, born := range mortals {
		t.Run(name, func(t *testing.T) {
			k, s := NewKey(), born(t, t.TempDir())
			began := time.Now().Add(-rounds * time.Hour)
			for h := range rounds {
				var both, at sync.WaitGroup
				at.Add(2)
				results := make([]*Result, 2)
				for i, node := range []string{"cp1", "cp2"} {
					own := openReal(t, s.Location())
					w := aTaking(t, node, k, own)
					w.Scheduled = true
					w.now = func() time.Time { return began.Add(time.Duration(h) * time.Hour) }
					w.pause = func(context.Context, time.Duration) { time.Sleep(20 * time.Millisecond) }
					// Both have looked, and nobody has claimed the round.
					meet := sync.OnceFunc(func() { at.Done(); at.Wait() })
					w.at = func(step string) {
						if strings.HasPrefix(step, "claim ") {
							meet()
						}
					}
					both.Go(func() {
						res, err := w.Take(t.Context())
						if err != nil {
							t.Error(err)
						}
						results[i] = res
						if s, ok := own.(*SFTP); ok {
							s.links.close()
						}
					})
				}
				both.Wait()
				l := listed(t, s.Store, k)
				if len(l.Entries) != h+1 {
					t.Fatalf("%d backups of %d rounds: %s", len(l.Entries), h+1, names(t, s.Store, ""))
				}
				took := 0
				for _, res := range results {
					if res == nil || !res.OK || res.Locations[0].By != l.Entries[0].Node || l.Entries[0].Err != nil {
						t.Errorf("%+v; the backup is %+v", res, l.Entries[0])
						continue
					}
					if res.Record != nil {
						took++
					}
				}
				if took != 1 {
					t.Errorf("%d nodes took it", took)
				}
			}
			if left := s.left(t); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}
