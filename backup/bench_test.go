package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-rewind/e2e/memory"
	"etcd-rewind/priority"
	"etcd-rewind/snapshot"
)

const (
	benchEnv   = "ETCD_REWIND_BACKUP_BENCH"      // of the process that takes or restores one, in JSON
	benchSize  = "ETCD_REWIND_BACKUP_BENCH_MB"   // of the database, 2400 when it isn't set
	benchAt    = "ETCD_REWIND_BACKUP_BENCH_ETCD" // URL of an etcd that has it already; else one is started
	benchTurns = "ETCD_REWIND_BACKUP_BENCH_PAIRS"
	benchValue = 5900 // bytes
)

// benched is the process of one backup, or of one restore.
type benched struct {
	Dir, Endpoint, To, Identity string
	Size                        int64
	Restore                     string // file
	Scheduled                   bool   // as the timer takes it
}

func (c benched) run() {
	id, err := age.ParseX25519Identity(c.Identity)
	if err == nil && c.Restore != "" {
		err = c.restore(id)
	} else if err == nil {
		err = c.take(id)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (c benched) take(id *age.X25519Identity) error {
	priority.GiveWay(Nice) // as the command does
	n := nodeIn(fatal{}, c.Dir, "cp1")
	n.Etcd, n.Size = snapshot.Etcd{Endpoints: []string{c.Endpoint}}, c.Size
	w := &Taking{
		Config: &Config{Recipients: []string{id.Recipient().String()}, Key: make(Key, keySize), Schedule: Schedule{Every: Duration(time.Hour)}},
		Node:   n, Dir: filepath.Join(c.Dir, "state"), Scheduled: c.Scheduled, stores: []Store{&Directory{Path: c.To}},
	}
	res, err := w.Take(context.Background())
	if err == nil && !res.OK {
		err = res.Error
	}
	return err
}

// restore goes the way of a restore until its data directory is staged: the file
// is opened, looked at, and restored.
func (c benched) restore(id *age.X25519Identity) error {
	ctx, src := context.Background(), snapshot.File(c.Restore)
	src.Identities = []age.Identity{id}
	st, err := snapshot.Stage(ctx, src, c.To, nil)
	if err != nil {
		return err
	}
	info, err := st.Inspect(ctx, nil)
	if err == nil {
		_, err = st.Restore(ctx, snapshot.RestoreRequest{
			Snapshot: st.Path, DataDir: filepath.Join(c.To, "data"), Name: "default", PeerURLs: []string{"http://127.0.0.1:2380"}, ExpectSHA256: info.SHA256,
		}, nil)
	}
	return errors.Join(err, st.Remove())
}

// side is one of the two that are compared.
type side struct {
	took      []time.Duration
	puts      []time.Duration // of etcd meanwhile
	cpu       time.Duration   // of its processes, without etcd
	anonymous int64           // the most of all its processes together, bytes
}

func (s *side) run(b *testing.B, p *puts, cmd *exec.Cmd) {
	b.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	s.puts = append(s.puts, p.during(func() {
		start := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		stop := watchTree(cmd.Process.Pid)
		err := cmd.Wait()
		s.took = append(s.took, time.Since(start))
		s.anonymous = max(s.anonymous, stop())
		s.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if err != nil {
			b.Fatalf("%v: %s", err, stderr.String())
		}
	})...)
}

func (s *side) String() string {
	return fmt.Sprintf("%.1f s (%s), %.1f s of CPU, %.0f MB", median(s.took).Seconds(), s.took, s.cpu.Seconds()/float64(len(s.took)), float64(s.anonymous)/1e6)
}

// load is what the machine has to do besides, as its first load average says.
func load() string {
	data, _ := os.ReadFile("/proc/loadavg")
	all := strings.Fields(string(data) + " ?")
	return all[0]
}

// BenchmarkBackup takes a backup of a database of 2.4 GB to a directory, in turn
// with what a shell would do: etcdctl snapshot save, zstd -3 -T2, age; and restores
// it until its data directory is staged, in turn with age -d, zstd -d and etcdutl
// snapshot restore. Both have their files on the disk in the end. The ratio is the
// median of those of the pairs: what else the machine does is nearly the same
// for both halves of one. It fails when a limit is exceeded; that of etcd's puts is for
// a backup as the timer takes it. They are shown, too, beside a backup that is as fast as
// the shell's, and while etcd does nothing but send a snapshot: to an etcdctl in the idle
// class that writes to memory. It needs zstd, 12 GB in TMPDIR, 3 GB in /dev/shm, and the
// Go module proxy for age's command.
func BenchmarkBackup(b *testing.B) {
	const (
		timeLimit   = 1.3  // of the shell's, both ways
		memoryLimit = 150. // MB, anonymous, of all processes of a backup
		putLimit    = 3.   // of the quiet p99
	)
	number := func(env, otherwise string) int {
		n, err := strconv.Atoi(cmp.Or(os.Getenv(env), otherwise))
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	dir := b.TempDir()
	bin := filepath.Join(dir, "bin")
	for pkg, name := range map[string]string{"go.etcd.io/etcd/server/v3": "etcd", "go.etcd.io/etcd/etcdctl/v3": "etcdctl", "go.etcd.io/etcd/etcdutl/v3": "etcdutl"} {
		build(b, nil, "build", "-o", filepath.Join(bin, name), pkg)
	}
	build(b, []string{"GOBIN=" + bin, "GOFLAGS=-mod=mod"}, "install", "filippo.io/age/cmd/age@"+build(b, nil, "list", "-m", "-f", "{{.Version}}", "filippo.io/age"))
	endpoint := os.Getenv(benchAt)
	if endpoint == "" {
		endpoint = benchEtcd(b, filepath.Join(bin, "etcd"), filepath.Join(dir, "server"))
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	if os.Getenv(benchAt) == "" {
		populate(b, c, number(benchSize, "2400")*1_000_000/benchValue)
	}
	status, err := c.Status(b.Context(), endpoint)
	if err != nil {
		b.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	put := startPuts(b, c)
	peer, to := filepath.Join(dir, "peer"), filepath.Join(dir, "there")
	clean := func() {
		b.Helper()
		for _, d := range []string{peer, to, filepath.Join(dir, "restored")} {
			if err := errors.Join(os.RemoveAll(d), os.MkdirAll(d, 0o700)); err != nil {
				b.Fatal(err)
			}
		}
		syscall.Sync()
		if _, err := memory.Settle(4 << 30); err != nil {
			b.Fatal(err)
		}
	}
	shell := func(script string) *exec.Cmd {
		cmd := exec.Command("sh", "-ec", script)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "ENDPOINT="+endpoint, "DIR="+dir, "RECIPIENT="+id.Recipient().String())
		return cmd
	}
	ours := func(c benched) *exec.Cmd {
		c.Dir, c.Endpoint, c.Identity, c.Size = dir, endpoint, id.String(), status.DbSize
		data, err := json.Marshal(c)
		if err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), benchEnv+"="+string(data))
		return cmd
	}
	if err := os.WriteFile(filepath.Join(dir, "identity"), []byte(id.String()+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	var quiet []time.Duration
	var take, timed, byHand, restore, restoreByHand, alone side
	for b.Loop() {
		for i := range number(benchTurns, "5") {
			clean()
			quiet = append(quiet, put.during(func() { time.Sleep(5 * time.Second) })...)
			// Who comes second finds memory as the first has left it: they take turns.
			pair := func(theirs, ours func()) {
				if i%2 == 1 {
					theirs, ours = ours, theirs
				}
				theirs()
				ours()
			}
			sealed := filepath.Join(dir, "sealed")
			pair(func() {
				clean()
				byHand.run(b, put, shell(`etcdctl --endpoints "$ENDPOINT" snapshot save "$DIR/peer/snapshot.db" >"$DIR/peer/log" 2>&1
zstd -q -3 -T2 <"$DIR/peer/snapshot.db" | age -r "$RECIPIENT" >"$DIR/peer/snapshot.db.zst.age"
sync "$DIR/peer/snapshot.db.zst.age"`))
			}, func() {
				clean()
				take.run(b, put, ours(benched{To: to}))
				found, err := filepath.Glob(filepath.Join(to, "*", "*", "*"+snapshotSuffix))
				if err != nil || len(found) != 1 {
					b.Fatalf("%q %v", found, err)
				}
				if err := os.Rename(found[0], sealed); err != nil {
					b.Fatal(err)
				}
			})
			pair(func() {
				clean()
				restoreByHand.run(b, put, shell(`age -d -i "$DIR/identity" "$DIR/sealed" | zstd -q -d >"$DIR/peer/snapshot.db"
etcdutl snapshot restore "$DIR/peer/snapshot.db" --data-dir "$DIR/peer/data" >"$DIR/peer/log" 2>&1
sync -f "$DIR/peer/data"`))
			}, func() {
				clean()
				restore.run(b, put, ours(benched{To: filepath.Join(dir, "restored"), Restore: sealed}))
			})
			clean()
			alone.run(b, put, shell(`D=$(mktemp -d /dev/shm/etcd-rewind-XXXXXX); trap 'rm -r "$D"' EXIT
chrt -i 0 etcdctl --endpoints "$ENDPOINT" snapshot save "$D/snapshot.db" >/dev/null 2>&1`))
			clean()
			timed.run(b, put, ours(benched{To: to, Scheduled: true}))
			b.Logf("load %s: backup %.2f, restore %.2f", load(), last(take.took, byHand.took), last(restore.took, restoreByHand.took))
		}
	}
	forth, back := ratio(take.took, byHand.took), ratio(restore.took, restoreByHand.took)
	slower := func(s *side) string {
		return fmt.Sprintf("%s, %.1f ×", p99(s.puts), p99(s.puts).Seconds()/p99(quiet).Seconds())
	}
	gentle, most := p99(timed.puts).Seconds()/p99(quiet).Seconds(), float64(max(take.anonymous, timed.anonymous))/1e6
	b.Logf("backup of %.2f GB\nshell: %s\netcd-rewind: %s\n%.2f of %.1f; memory limit %.0f MB", float64(status.DbSize)/1e9, &byHand, &take, forth, timeLimit, memoryLimit)
	b.Logf("etcd-rewind by the timer: %s\nput p99 quiet %s; beside etcdctl alone, idle and into memory %s; beside the shell %s; beside etcd-rewind %s, by the timer %s of %.0f",
		&timed, p99(quiet), slower(&alone), slower(&byHand), slower(&take), slower(&timed), putLimit)
	b.Logf("restore\nshell: %s\netcd-rewind: %s\n%.2f of %.1f", &restoreByHand, &restore, back, timeLimit)
	b.ReportMetric(forth, "of-the-shell")
	b.ReportMetric(back, "of-the-shell-restored")
	b.ReportMetric(gentle, "of-quiet-puts")
	b.ReportMetric(most, "MB-anonymous")
	if forth > timeLimit || back > timeLimit || most > memoryLimit || gentle > putLimit {
		b.Error("over a limit")
	}
}

// build runs go.
func build(b *testing.B, env []string, args ...string) string {
	b.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("go %s: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func last(ours, theirs []time.Duration) float64 {
	return ours[len(ours)-1].Seconds() / theirs[len(theirs)-1].Seconds()
}

// ratio is the median of the pairs'.
func ratio(ours, theirs []time.Duration) float64 {
	var all []float64
	for i := range ours {
		all = append(all, ours[i].Seconds()/theirs[i].Seconds())
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func median(d []time.Duration) time.Duration { return at100(d, 50) }
func p99(d []time.Duration) time.Duration    { return at100(d, 99) }

func at100(d []time.Duration, n int) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[min(len(d)*n/100, len(d)-1)]
}

// benchEtcd starts an etcd on loopback.
func benchEtcd(b *testing.B, program, dir string) (endpoint string) {
	b.Helper()
	port := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		return "http://" + l.Addr().String()
	}
	client, peer := port(), port()
	cmd := exec.Command(program, "--data-dir", dir, "--quota-backend-bytes", "8589934592", "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return client
}

// populate puts values as Kubernetes has them: much is said again and again.
func populate(b *testing.B, c *clientv3.Client, n int) {
	b.Helper()
	words := make([]string, 4000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range words {
		words[i] = fmt.Sprintf("%x", r.Uint64()>>r.UintN(40))
	}
	value := func(r *rand.Rand) string {
		var s strings.Builder
		for s.Len() < benchValue {
			s.WriteString(words[int(r.ExpFloat64()*400)%len(words)])
			s.WriteByte('\n')
		}
		return s.String()[:benchValue]
	}
	var all sync.WaitGroup
	const workers, batch = 8, 50
	for w := range workers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			for i := w * batch; i < n; i += workers * batch {
				var ops []clientv3.Op
				for j := range batch {
					ops = append(ops, clientv3.OpPut(fmt.Sprintf("/registry/pods/default/p%08d", i+j), value(r)))
				}
				if _, err := c.Txn(b.Context()).Then(ops...).Commit(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// puts are small writes, 50 a second.
type puts struct {
	mu  sync.Mutex
	all []time.Duration
}

func startPuts(b *testing.B, c *clientv3.Client) *puts {
	p := &puts{}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			start := time.Now()
			_, err := c.Put(ctx, "/registry/leases/kube-node-lease/cp1", strconv.Itoa(i))
			took := time.Since(start)
			if err != nil {
				continue
			}
			p.mu.Lock()
			p.all = append(p.all, took)
			p.mu.Unlock()
			time.Sleep(max(0, 20*time.Millisecond-took))
		}
	})
	b.Cleanup(func() { cancel(); done.Wait() })
	return p
}

func (p *puts) during(f func()) []time.Duration {
	p.mu.Lock()
	n := len(p.all)
	p.mu.Unlock()
	f()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all[n:])
}

// watchTree watches a process and its children until the function that it returns
// is called, which returns the most anonymous memory they had together, in bytes.
func watchTree(pid int) (stop func() int64) {
	quit, most := make(chan struct{}), make(chan int64)
	go func() {
		var peak int64
		for {
			select {
			case <-quit:
				most <- peak
				return
			case <-time.After(10 * time.Millisecond):
			}
			peak = max(peak, anonymousOf(strconv.Itoa(pid)))
		}
	}()
	return func() int64 { close(quit); return <-most }
}

func anonymousOf(pid string) (sum int64) {
	status, _ := os.ReadFile("/proc/" + pid + "/status")
	for line := range strings.Lines(string(status)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kb); err == nil {
			sum = kb << 10
		}
	}
	tasks, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
	for _, t := range tasks {
		children, _ := os.ReadFile(t)
		for _, child := range strings.Fields(string(children)) {
			sum += anonymousOf(child)
		}
	}
	return sum
}
