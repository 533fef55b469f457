package backup

import (
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/steps"
)

// leaving is a store where killed uploads have left something.
type leaving struct {
	Store
	leave func(name string, age time.Duration)
	left  func() []string // names of what is still there
}

// leavings are one of each kind.
func leavings(t *testing.T) map[string]leaving {
	t.Helper()
	inDir := func(s Store, dir string) leaving {
		return leaving{s, func(name string, age time.Duration) {
			path, when := filepath.Join(dir, aside(name)), time.Now().Add(-age)
			if strings.HasSuffix(name, "/") { // as the version before named it
				path = filepath.Join(dir, name, ".etcd-rewind-ABCDE.part")
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("half"), 0o600), os.Chtimes(path, when, when)); err != nil {
				t.Fatal(err)
			}
		}, func() (all []string) {
			err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
				if err == nil && !e.IsDir() {
					below, _ := filepath.Rel(dir, filepath.Dir(path))
					if name, is := unfinishedIn(below, e.Name()); is {
						all = append(all, name)
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return all
		}}
	}
	dir := t.TempDir()
	far, host := newFakeSFTP(t, nil)
	f, bucket := newFakeS3(t, "")
	f.clock = -30 * 24 * time.Hour // nobody set it
	return map[string]leaving{
		"a directory": inDir(&Directory{Path: dir}, dir), "another host": inDir(host, far),
		"a bucket": {bucket, func(name string, age time.Duration) {
			id := "u" + name
			f.uploads[id], f.keys[id], f.begun[id] = map[int][]byte{}, "some/prefix/"+name, time.Now().Add(f.clock-age)
		}, func() (all []string) {
			for _, key := range f.keys {
				all = append(all, strings.TrimPrefix(key, "some/prefix/"))
			}
			return all
		}},
	}
}

// kill -9 in the middle of an upload leaves what no listing shows, and what costs.
// The next backup throws away what this node left, in whichever round, and what
// others have left when nobody can be at it any more.
func TestWhatAKilledUploadHasLeftIsThrownAway(t *testing.T) {
	for kind, s := range leavings(t) {
		t.Run(kind, func(t *testing.T) {
			w := aTaking(t, "cp1", NewKey(), s)
			w.Scheduled = true
			round := func(ago time.Duration) string { return clusterA + "/" + RoundAt(noon.Add(-ago)).String() }
			now, before, once := round(0), round(time.Hour), round(100*time.Hour)
			killed := []string{before + "/cp1" + snapshotSuffix, before + "/cp1" + secretsSuffix, before + "/cp1" + recordSuffix, claimName(clusterA, RoundAt(noon.Add(-time.Hour)), 1)}
			long := []string{once + "/cp2" + snapshotSuffix, once + "/cp3" + secretsSuffix}
			goOn := []string{before + "/cp2" + snapshotSuffix, now + "/cp2" + snapshotSuffix, now + "/cp1.example" + snapshotSuffix, claimName(clusterA, RoundAt(noon), 7)}
			others := []string{"logs/2026/cp1" + snapshotSuffix, clusterB + "/" + RoundAt(noon).String() + "/cp1" + snapshotSuffix, "a.txt"}
			if kind == "a bucket" {
				others = append(others, once+"/video.mp4")
			} else {
				long = append(long, once+"/")
			}
			for _, name := range killed {
				s.leave(name, 11*time.Minute)
			}
			for _, name := range long {
				s.leave(name, unfinishedFor+time.Hour)
			}
			for _, name := range goOn { // others are at it, or have been a moment ago
				s.leave(name, unfinishedFor-time.Hour)
			}
			s.leave(claimName(clusterA, RoundAt(noon), 1), time.Minute) // one that this node was killed at
			for _, name := range others {
				s.leave(name, 1000*time.Hour)
			}
			stay := slices.Concat(goOn, others, []string{claimName(clusterA, RoundAt(noon), 1)})
			state := &steps.Backups{}
			state.At(s.Location()).Sending = []string{before + "/cp1" + recordSuffix, killed[3], claimName(clusterA, RoundAt(noon), 1)}
			if err := state.Write(w.Dir); err != nil {
				t.Fatal(err)
			}
			if res := take(t, w); !res.OK {
				t.Fatal(res.Error)
			}
			got := s.left()
			slices.Sort(got)
			slices.Sort(stay)
			if !slices.Equal(got, stay) {
				t.Errorf("left:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(stay, "\n"))
			}
			state, err := steps.ReadBackups(w.Dir)
			if err != nil || !slices.Equal(state.Locations[0].Sending, []string{claimName(clusterA, RoundAt(noon), 1)}) || !state.Locations[0].Swept.Equal(w.now()) {
				t.Errorf("%+v %v", state, err)
			}

			// Once a day is enough to look for those of others.
			s.leave(long[0], unfinishedFor+time.Hour)
			for _, c := range []struct {
				later time.Duration
				there bool
			}{{time.Hour, true}, {25 * time.Hour, false}} {
				w.now = func() time.Time { return noon.Add(10*time.Minute + c.later) }
				if res := take(t, w); !res.OK {
					t.Fatal(res.Error)
				}
				if slices.Contains(s.left(), long[0]) != c.there {
					t.Errorf("%s later: %v", c.later, s.left())
				}
			}
		})
	}
}

// A bucket may not let its uploads be listed: the backup is as good, and what this
// node left is remembered until it can be thrown away.
func TestABucketThatDoesNotListItsUploadsGetsBackupsAllTheSame(t *testing.T) {
	f, s := newFakeS3(t, "")
	denied := true
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		no := denied && r.Method == http.MethodGet && r.URL.Query().Has("uploads")
		if no {
			f.fail(w, 403, "AccessDenied", "User is not authorized to perform: s3:ListBucketMultipartUploads")
		}
		return no
	}
	name := clusterA + "/" + RoundAt(noon.Add(-time.Hour)).String() + "/cp1"
	f.uploads["u"], f.keys["u"], f.begun["u"] = map[int][]byte{}, "some/prefix/"+name+snapshotSuffix, time.Now()
	w := aTaking(t, "cp1", NewKey(), s)
	state := &steps.Backups{}
	state.At(s.Location()).Sending = []string{name + recordSuffix}
	if err := state.Write(w.Dir); err != nil {
		t.Fatal(err)
	}
	if res := take(t, w); !res.OK {
		t.Fatal(res.Error)
	}
	if p := problem.Of(s.Sweep(t.Context(), "", func(Unfinished) bool { return true })); p == nil || !strings.Contains(p.Hint, "s3:ListBucketMultipartUploads") {
		t.Errorf("%v", p)
	}
	denied = false
	w.now = func() time.Time { return noon.Add(time.Hour) }
	if res := take(t, w); !res.OK || len(f.uploads) > 0 {
		t.Errorf("%v: %v", res.Error, slices.Collect(maps.Values(f.keys)))
	}
}

// inDirectories are the stores that have directories, by where they are.
func inDirectories(t *testing.T) map[string]Store {
	t.Helper()
	dir := t.TempDir()
	far, host := newFakeSFTP(t, nil)
	return map[string]Store{dir: &Directory{Path: dir}, far: host}
}

// A listing reads every directory, so one that a backup was pruned from goes with its
// last file; and nothing else does.
func TestADirectoryGoesWithItsLastFile(t *testing.T) {
	for dir, s := range inDirectories(t) {
		t.Run(strings.SplitN(s.Location(), ":", 2)[0], func(t *testing.T) {
			k := NewKey()
			for h := range 3 {
				put(t, s, aRecord(noon.Add(time.Duration(h)*time.Hour), "cp1"), k)
			}
			round := func(h int) string {
				return filepath.Join(clusterA, RoundAt(noon.Add(time.Duration(h)*time.Hour)).String())
			}
			in := func(below string) int {
				all, err := os.ReadDir(filepath.Join(dir, below))
				if err != nil {
					return -1
				}
				return len(all)
			}
			notes := filepath.Join(dir, round(1), ".notes")
			if err := errors.Join(os.WriteFile(notes, nil, 0o600), os.MkdirAll(filepath.Join(dir, "photos"), 0o700), os.MkdirAll(filepath.Join(dir, round(9)), 0o700)); err != nil {
				t.Fatal(err)
			}
			if p := listed(t, s, k).Prune(t.Context(), Policy{Last: 1}, noon.Add(3*time.Hour), nil, false, time.Minute); p.Failed != nil || len(p.Removed) != 2 {
				t.Fatalf("%+v", p)
			}
			if in(round(0)) != -1 || in(round(1)) != 1 || in(round(2)) != 3 {
				t.Errorf("they have %d, %d and %d files", in(round(0)), in(round(1)), in(round(2)))
			}

			// What was killed right after it made one has nothing to delete in it.
			if err := sweep(t.Context(), s, clusterA); err != nil || in(round(9)) != -1 || in("photos") != 0 || in(round(1)) != 1 {
				t.Errorf("%v: %d, %d and %d files", err, in(round(9)), in("photos"), in(round(1)))
			}
			if err := os.MkdirAll(filepath.Join(dir, round(9)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := s.Delete(t.Context(), filepath.Join(round(9), "cp1"+snapshotSuffix)); err != nil || in(round(9)) != -1 {
				t.Errorf("%v: %d files", err, in(round(9)))
			}
		})
	}
}

// One node removes the directory that another is about to write to, also just after
// a third has made it.
func TestADirectoryThatGoesMeanwhileIsMadeAgain(t *testing.T) {
	for _, s := range inDirectories(t) {
		t.Run(strings.SplitN(s.Location(), ":", 2)[0], func(t *testing.T) {
			var all sync.WaitGroup
			for _, node := range []string{"cp1", "cp2", "cp3", "cp4"} {
				all.Go(func() {
					for range 100 {
						name := claimName(clusterA, RoundAt(noon), 1) + node
						if err := errors.Join(s.Put(t.Context(), name, strings.NewReader("x"), 1), s.Delete(t.Context(), name)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}
