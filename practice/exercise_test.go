package practice

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// atOnce holds back tests that start nodes: a dozen of them would only slow
// each other down.
var atOnce = make(chan struct{}, 6)

// attempt starts an exercise and leaves its broken node: for a script where it
// can be had from inside, for the engine in this process from outside.
func attempt(t *testing.T, name string, script bool) *session {
	t.Helper()
	atOnce <- struct{}{}
	t.Cleanup(func() { <-atOnce })
	c := Config{Root: Root(t.TempDir()), Linger: 300 * time.Millisecond}
	c.Inside = script && mayEnter(t.Context(), c.Root) == nil
	s, stop, err := startSession(t.Context(), find(name), c, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

// prelude is what a practised engineer has in the fingers.
const prelude = `set -eu
T=$ETCD_REWIND_PRACTICE_ROOT/tmp
M=$R/etc/kubernetes/manifests P=$R/etc/kubernetes/pki/etcd
flag() { sed -n "s/^ *- --$1=//p" $M/etcd.yaml; }
E="--endpoints $(flag advertise-client-urls) --cacert $P/ca.crt --cert $P/server.crt --key $P/server.key"
restore() { # snapshot, directory
	etcdutl snapshot restore "$1" --data-dir "$2" --name "$(flag name)" \
		--initial-cluster "$(flag initial-cluster)" --initial-advertise-peer-urls "$(flag initial-advertise-peer-urls)"
}
gone() { while crictl pods -q --state ready --name "^$1-cp1$" | grep -q .; do sleep 0.1; done; }
take_out() { mv $M/kube-apiserver.yaml $M/etcd.yaml $T/; gone kube-apiserver; gone etcd; sleep 2.6; }
repoint() { sed -i "s#path: $R/var/lib/$1\$#path: $2#" $T/etcd.yaml; }
agree() { kubectl -n kube-system get configmap kubeadm-config -o yaml | sed "s#dataDir: .*#dataDir: $1#" | kubectl replace -f -; }
put_in() {
	mv $T/etcd.yaml $M/
	n=0; until etcdctl $E endpoint health >/dev/null 2>&1; do n=$((n+1)); test $n -lt 60; sleep 0.2; done
	mv $T/kube-apiserver.yaml $M/
}
`

// by runs a script in the shell of the exercise.
func (s *session) by(t *testing.T, script string) {
	t.Helper()
	var out bytes.Buffer
	err := shell(t.Context(), s, strings.NewReader(prelude+script+"\necho it went to its end\n"), &out, &out, nil)
	if err != nil || !strings.Contains(out.String(), "it went to its end") {
		t.Fatalf("the script failed: %v\n%s", err, out.String())
	}
}

// judged grades until the try has passed with these points or time is up.
func (s *session) judged(ctx context.Context, points int) Grade {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for end := time.Now().Add(time.Minute); ; time.Sleep(300 * time.Millisecond) {
		g := s.grade(ctx)
		if g.Passed && g.Points >= points || time.Now().After(end) {
			return g
		}
	}
}

func (s *session) passes(t *testing.T, points int) {
	t.Helper()
	g := s.judged(t.Context(), points)
	if !g.Passed || g.Points != points {
		var out bytes.Buffer
		printGrade(&out, s, g)
		log, _ := os.ReadFile(s.Root.Path("var/log/kubelet.log"))
		t.Fatalf("want passed with %d points\n%s\n%s", points, out.String(), log)
	}
}

// misses wants the try not to pass, and because of this.
func (s *session) misses(t *testing.T, want ...string) {
	t.Helper()
	// Whoever did it wrong waits until all runs again, as far as it does.
	ctx := t.Context()
	for end := time.Now().Add(25 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if l := s.look(ctx); l.ready.Ready() && l.dataDir != "" {
			break
		}
	}
	g := s.grade(ctx)
	if g.Passed {
		t.Error("it passed")
	}
	var out bytes.Buffer
	printGrade(&out, s, g)
	told := strings.Join(strings.Fields(out.String()), " ") // wherever its lines break
	for _, w := range want {
		if !strings.Contains(told, w) {
			t.Errorf("the grade doesn't say %q:\n%s", w, out.String())
		}
	}
}

// wizard does what the wizard does, without its screen.
func (s *session) wizard(t *testing.T, snap string) {
	t.Helper()
	ctx := t.Context()
	w := &steps.Session{Options: s.options()}
	f, err := w.Discover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.runs(t, w, f, s.Root.Path("opt/backup", snap), steps.Choices{})
}

// repoint does what etcd-rewind repoint does.
func (s *session) repoint(t *testing.T, dir string) {
	t.Helper()
	w := &steps.Session{Options: s.options()}
	f, err := w.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, database, err := f.InPlace(s.Root.Path(dir), steps.Choices{})
	if err != nil {
		t.Fatal(err)
	}
	s.runs(t, w, f, database, c)
}

// runs plans and runs what a snapshot, or a database, is for.
func (s *session) runs(t *testing.T, w *steps.Session, f *steps.Facts, path string, c steps.Choices) {
	t.Helper()
	ctx := t.Context()
	if s.Inside {
		t.Fatal("the manifests name the machine's own paths: not for this process")
	}
	info, err := w.Inspect(ctx, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.KubeletRestart = s.options().KubeletRestart
	for _, v := range w.Check(ctx, f, info, c) {
		if v.Level == steps.Error && c.InPlace {
			t.Errorf("%+v", v)
		}
	}
	p, err := w.Plan(f, info, c)
	if err != nil {
		t.Fatal(err)
	}
	res, err := w.Run(ctx, p, func(steps.Event) {}, func(f steps.Failure) steps.Choice {
		t.Errorf("%s: %s %s %v %v", f.Action, f.Cause, f.Hint, f.Seen, f.Log)
		return f.Choices[0]
	})
	if err != nil || !res.OK {
		t.Fatal(err, res)
	}
}

// tells says that a check warns, with these words.
func (s *session) tells(t *testing.T, check, words string) {
	t.Helper()
	w := &steps.Session{Options: s.options()}
	f, err := w.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range w.Check(t.Context(), f, nil, steps.Choices{}) {
		if v.Check == check && v.Level == steps.Warn && strings.Contains(v.Cause, words) {
			return
		}
	}
	t.Errorf("no check %s warns of %s; older data: %+v, blank since %v", check, words, f.Older, f.BlankSince)
}

func TestExercises(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup // not t.Parallel for each: they do little but wait
	defer all.Wait()
	for _, c := range []struct {
		exercise, how string
		run           func(t *testing.T, s *session)
	}{
		{"deleted-namespace", "wizard", func(t *testing.T, s *session) {
			s.wizard(t, "etcd-nightly.db")
			s.passes(t, 100)
		}},
		{"deleted-namespace", "by hand", func(t *testing.T, s *session) {
			s.by(t, `restore $R/opt/backup/etcd-nightly.db $R/var/lib/etcd-new; take_out; repoint etcd $R/var/lib/etcd-new; put_in
until agree $R/var/lib/etcd-new; do sleep 0.2; done`)
			s.passes(t, 100)
		}},
		{"deleted-namespace", "wrong: over the old data", func(t *testing.T, s *session) {
			s.by(t, `restore $R/opt/backup/etcd-nightly.db $T/new; take_out; rm -r $R/var/lib/etcd; mv $T/new $R/var/lib/etcd; put_in`)
			s.misses(t, "it runs from /var/lib/etcd", "other data is there now")
		}},
		{"deleted-namespace", "by hand, the old directory moved aside", func(t *testing.T, s *session) {
			s.by(t, `restore $R/opt/backup/etcd-nightly.db $T/new; take_out; mv $R/var/lib/etcd $R/var/lib/etcd.old; mv $T/new $R/var/lib/etcd; put_in`)
			s.passes(t, 100)
		}},
		{"deleted-namespace", "wrong: an empty directory", func(t *testing.T, s *session) {
			s.by(t, `take_out; repoint etcd $R/var/lib/etcd-new; put_in`)
			s.misses(t, "not passed, 0 of 100 points", "after-the-snapshot is gone: the cluster is not the snapshot's")
		}},
		{"deleted-namespace", "wrong: the namespace re-created by hand", func(t *testing.T, s *session) {
			s.by(t, `etcdctl $E get /registry/namespaces/payments --print-value-only | head -c -1 | etcdctl $E put /registry/namespaces/shop`)
			s.misses(t, "namespace shop is back: it has another UID")
		}},
		{"blank-etcd", "wizard", func(t *testing.T, s *session) {
			s.tells(t, "older-data", s.Root.Path("var/lib/etcd"))
			s.wizard(t, "etcd-nightly.db")
			s.passes(t, 80)
		}},
		{"blank-etcd", "repoint", func(t *testing.T, s *session) {
			s.repoint(t, "var/lib/etcd")
			s.passes(t, 100)
		}},
		{"blank-etcd", "by hand", func(t *testing.T, s *session) {
			s.by(t, `take_out; repoint etdc $R/var/lib/etcd; put_in`)
			s.passes(t, 100)
		}},
		{"blank-etcd", "wrong: the old directory removed for a restore", func(t *testing.T, s *session) {
			s.by(t, `restore $R/opt/backup/etcd-nightly.db $T/new; take_out; rm -r $R/var/lib/etcd; mv $T/new $R/var/lib/etcd; repoint etdc $R/var/lib/etcd; put_in`)
			s.misses(t, "other data is there now")
		}},
		{"corrupt-data", "wizard", func(t *testing.T, s *session) {
			if _, err := snapshot.Inspect(t.Context(), s.Root.Path("opt/backup/etcd-0300.db"), nil); err == nil {
				t.Error("the damaged snapshot is taken for a good one")
			}
			s.wizard(t, "etcd-0200.db")
			s.passes(t, 100)
		}},
		{"corrupt-data", "by hand", func(t *testing.T, s *session) {
			s.by(t, `if restore $R/opt/backup/etcd-0300.db $R/var/lib/etcd-3; then exit 1; fi
restore $R/opt/backup/etcd-0200.db $R/var/lib/etcd-2; take_out; repoint etcd $R/var/lib/etcd-2; put_in`)
			s.passes(t, 95) // kubeadm-config is left as it was
		}},
		{"corrupt-data", "wrong: the hash skipped", func(t *testing.T, s *session) {
			s.by(t, `etcdutl snapshot restore $R/opt/backup/etcd-0300.db --skip-hash-check --data-dir $R/var/lib/etcd-3 --name cp1 --initial-cluster $(flag initial-cluster) --initial-advertise-peer-urls $(flag initial-advertise-peer-urls) || true
take_out; repoint etcd $R/var/lib/etcd-3; mv $T/*.yaml $M/`)
			s.misses(t, "namespace shop is back: ")
		}},
		{"wrong-snapshot", "wizard", func(t *testing.T, s *session) {
			s.wizard(t, "b.db")
			s.passes(t, 100)
		}},
		{"wrong-snapshot", "by hand", func(t *testing.T, s *session) {
			s.by(t, `restore $R/opt/backup/b.db $R/var/lib/etcd-b; take_out; repoint etcd $R/var/lib/etcd-b; put_in`)
			s.passes(t, 95) // kubeadm-config is left as it was
		}},
		{"wrong-snapshot", "wrong: the newest one", func(t *testing.T, s *session) {
			s.by(t, `restore $R/opt/backup/c.db $R/var/lib/etcd-c; take_out; repoint etcd $R/var/lib/etcd-c; put_in`)
			s.misses(t, "ConfigMap payments/app is back: it is not there")
		}},
		{"restored-not-repointed", "by hand", func(t *testing.T, s *session) {
			s.by(t, `take_out; repoint etcd $R/var/lib/etcd-restored; put_in`)
			s.passes(t, 95) // kubeadm-config is left as it was
		}},
		{"restored-not-repointed", "by hand, edited in place", func(t *testing.T, s *session) {
			s.by(t, `sed -i "s#path: $R/var/lib/etcd\$#path: $R/var/lib/etcd-restored#" $M/etcd.yaml`)
			s.passes(t, 95) // kubeadm-config is left as it was
		}},
		{"restored-not-repointed", "wrong: data-dir without the volume", func(t *testing.T, s *session) {
			s.by(t, `take_out; sed -i 's#--data-dir=.*#--data-dir=/var/lib/etcd-restored#' $T/etcd.yaml; put_in`)
			s.misses(t, "etcd runs from /var/lib/etcd-restored: it runs from the container's own files")
		}},
		{"restored-not-repointed", "wrong: another directory", func(t *testing.T, s *session) {
			s.by(t, `restore $R/opt/backup/etcd-nightly.db $R/var/lib/etcd-mine; take_out; repoint etcd $R/var/lib/etcd-mine; put_in`)
			s.misses(t, "it runs from /var/lib/etcd-mine")
		}},
		{"stray-backup", "by hand", func(t *testing.T, s *session) {
			s.by(t, `mv $M/etcd.yaml.bak $T/`)
			s.passes(t, 95) // kubeadm-config is left as it was
		}},
		{"stray-backup", "wrong: the copy edited too", func(t *testing.T, s *session) {
			s.by(t, `sed -i "s#path: $R/var/lib/etcd\$#path: $R/var/lib/etcd-restored#" $M/etcd.yaml.bak; sleep 3`)
			s.misses(t, "etcd.yaml.bak")
		}},
		{"exam", "by hand", func(t *testing.T, s *session) {
			s.by(t, `etcdctl $E snapshot save $R/opt/backup/etcd-now.db
restore $R/opt/backup/etcd-previous.db $R/var/lib/etcd-exam; take_out; repoint etcd $R/var/lib/etcd-exam; put_in
until agree $R/var/lib/etcd-exam; do sleep 0.2; done`)
			s.passes(t, 100)
		}},
		{"exam", "wrong: the default name and peer URL", func(t *testing.T, s *session) {
			s.by(t, `etcdctl $E snapshot save $R/opt/backup/etcd-now.db
etcdutl snapshot restore $R/opt/backup/etcd-previous.db --data-dir $R/var/lib/etcd-exam; take_out; repoint etcd $R/var/lib/etcd-exam; put_in`)
			s.misses(t, `it is "cp1" at http://localhost:2380, not`)
		}},
		{"exam", "wrong: another directory, and saved too late", func(t *testing.T, s *session) {
			s.by(t, `restore $R/opt/backup/etcd-previous.db $R/var/lib/etcd-2; take_out; repoint etcd $R/var/lib/etcd-2; put_in
etcdctl $E snapshot save $R/opt/backup/etcd-now.db`)
			s.misses(t, "it runs from /var/lib/etcd-2", "it holds another state than the cluster had")
		}},
	} {
		all.Go(func() {
			t.Run(c.exercise+" "+c.how, func(t *testing.T) { c.run(t, attempt(t, c.exercise, c.how != "wizard" && c.how != "repoint")) })
		})
	}
}

func TestNobodyPassesByDoingNothing(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	defer all.Wait()
	for _, e := range exercises {
		all.Go(func() {
			t.Run(e.Name, func(t *testing.T) {
				points := 0
				for _, d := range e.demands {
					points += d.points
				}
				if points != 100 {
					t.Errorf("the demands make %d points", points)
				}
				s := attempt(t, e.Name, false)
				g := s.grade(t.Context())
				if g.Passed || g.Points > 0 {
					t.Errorf("passed %v, %d points: %+v", g.Passed, g.Points, g.Marks)
				}
				for _, m := range g.Marks {
					if strings.Contains(m.Missed+m.Why, "UID") {
						t.Errorf("another UID reports what isn't there: %+v", m)
					}
				}
			})
		})
	}
}
