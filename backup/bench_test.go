package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"etcd-rewind/snapshot"
)

const (
	benchEnv   = "ETCD_REWIND_BACKUP_BENCH"     // of the process that takes one, in JSON
	ageEnv     = "ETCD_REWIND_BACKUP_BENCH_AGE" // of the process that is age -r: its command isn't among this module's
	benchSize  = "ETCD_REWIND_BACKUP_BENCH_MB"  // of the database, 2400 when it isn't set
	benchValue = 5900                           // bytes
)

// benched is the process of one backup.
type benched struct {
	Dir, Endpoint, To string
	Size              int64
}

func (c benched) take() {
	k := make(Key, keySize)
	n := nodeIn(fatal{}, c.Dir, "cp1")
	n.Etcd, n.Size = snapshot.Etcd{Endpoints: []string{c.Endpoint}}, c.Size
	w := &Taking{
		Config: &Config{Recipients: []string{anAge}, Key: k}, Node: n, Dir: filepath.Join(c.Dir, "state"), stores: []Store{&Directory{Path: c.To}},
	}
	if res, err := w.Take(context.Background()); err != nil || !res.OK {
		fmt.Fprintln(os.Stderr, err, res)
		os.Exit(1)
	}
	os.Exit(0)
}

// ageCommand is age -r RECIPIENT.
func ageCommand(recipient string) {
	r, err := ParseRecipient(recipient)
	if err == nil {
		var w io.WriteCloser
		if w, err = age.Encrypt(os.Stdout, r); err == nil {
			_, err = io.Copy(w, os.Stdin)
			err = errors.Join(err, w.Close())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// BenchmarkBackup takes a backup of a database of 2.4 GB to a directory, in turn
// with what a shell would do: etcdctl snapshot save, zstd -3 -T2, age. Both have
// their file on the disk in the end. It fails when a limit is exceeded. It needs
// zstd, and 12 GB in TMPDIR.
func BenchmarkBackup(b *testing.B) {
	const (
		timeLimit   = 1.3  // of the shell's
		memoryLimit = 150. // MB, anonymous, of all processes of a backup
		putLimit    = 3.   // of the quiet p99
		rounds      = 3
	)
	mb, err := strconv.Atoi(cmp.Or(os.Getenv(benchSize), "2400"))
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	bin := filepath.Join(dir, "bin")
	for name, pkg := range map[string]string{"etcd": "go.etcd.io/etcd/server/v3", "etcdctl": "go.etcd.io/etcd/etcdctl/v3"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg).CombinedOutput(); err != nil {
			b.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
	}
	endpoint := benchEtcd(b, filepath.Join(bin, "etcd"), filepath.Join(dir, "server"))
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	populate(b, c, mb*1_000_000/benchValue)
	status, err := c.Status(b.Context(), endpoint)
	if err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	puts := startPuts(b, c)
	clean := func() {
		b.Helper()
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, "there")), os.RemoveAll(filepath.Join(dir, "peer")), os.MkdirAll(filepath.Join(dir, "there"), 0o700), os.MkdirAll(filepath.Join(dir, "peer"), 0o700)); err != nil {
			b.Fatal(err)
		}
		syscall.Sync()
		if _, err := memory.Settle(1 << 30); err != nil {
			b.Fatal(err)
		}
	}
	var ours, peer []time.Duration
	var quiet, besideOurs, besidePeer []time.Duration
	var anonymous int64
	var oursCPU, peerCPU time.Duration // of all their processes, without etcd
	for b.Loop() {
		for range rounds {
			clean()
			quiet = append(quiet, puts.during(func() { time.Sleep(5 * time.Second) })...)
			besidePeer = append(besidePeer, puts.during(func() {
				peer = append(peer, timed(b, func() error {
					script := `set -e
"$BIN/etcdctl" --endpoints "$ENDPOINT" snapshot save "$DIR/peer/snapshot.db" >"$DIR/peer/log" 2>&1
zstd -q -3 -T2 <"$DIR/peer/snapshot.db" | "$AGE" >"$DIR/peer/snapshot.db.zst.age"
sync "$DIR/peer/snapshot.db.zst.age"`
					cmd := exec.Command("sh", "-c", script)
					cmd.Env = append(os.Environ(), "BIN="+bin, "DIR="+dir, "ENDPOINT="+endpoint, "AGE="+self, ageEnv+"="+anAge)
					out, err := cmd.CombinedOutput()
					if err != nil {
						return fmt.Errorf("%w: %s", err, out)
					}
					peerCPU += cpuOf(cmd)
					return nil
				}))
			})...)
			clean()
			besideOurs = append(besideOurs, puts.during(func() {
				ours = append(ours, timed(b, func() error {
					data, err := json.Marshal(benched{Dir: dir, Endpoint: endpoint, To: filepath.Join(dir, "there"), Size: status.DbSize})
					if err != nil {
						return err
					}
					cmd := exec.Command(self)
					cmd.Env, cmd.Stderr = append(os.Environ(), benchEnv+"="+string(data)), os.Stderr
					if err := cmd.Start(); err != nil {
						return err
					}
					stop := watchTree(cmd.Process.Pid)
					err = cmd.Wait()
					anonymous = max(anonymous, stop())
					oursCPU += cpuOf(cmd)
					return err
				}))
			})...)
		}
	}
	ratio, slower := median(ours).Seconds()/median(peer).Seconds(), p99(besideOurs).Seconds()/p99(quiet).Seconds()
	b.Logf("%.2f GB: shell %.1f s, etcd-rewind %.1f s, %.2f of %.1f (%.1f s and %.1f s of CPU); anonymous memory %.0f MB of %.0f; put p99 quiet %s, beside the shell %s, beside etcd-rewind %s, %.1f of %.0f",
		float64(status.DbSize)/1e9, median(peer).Seconds(), median(ours).Seconds(), ratio, timeLimit, peerCPU.Seconds()/rounds, oursCPU.Seconds()/rounds, float64(anonymous)/1e6, memoryLimit,
		p99(quiet).Round(time.Microsecond), p99(besidePeer).Round(time.Microsecond), p99(besideOurs).Round(time.Microsecond), slower, putLimit)
	b.ReportMetric(ratio, "of-the-shell")
	b.ReportMetric(float64(anonymous)/1e6, "MB-anonymous")
	if ratio > timeLimit || float64(anonymous)/1e6 > memoryLimit || slower > putLimit {
		b.Error("over a limit")
	}
}

func timed(b *testing.B, f func() error) time.Duration {
	b.Helper()
	start := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func cpuOf(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
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
