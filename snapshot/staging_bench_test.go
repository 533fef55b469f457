package snapshot

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"etcd-rewind/e2e/memory"
	"etcd-rewind/trust"
)

// BenchmarkStaging restores one snapshot of 2.4 GB with etcdutl, as a program
// of its own, and with Restore, in turn, on ext4 and on XFS in loop devices,
// while an etcd writes to the same file system. It fails when a limit is
// exceeded. It needs root, mkfs.ext4 and mkfs.xfs, and 20 GB in TMPDIR.
func BenchmarkStaging(b *testing.B) {
	const (
		timeLimit   = 0.75 // of etcdutl's
		memoryLimit = 100. // MB, anonymous
		probeLimit  = 3.   // of the quiet median
		rounds      = 5
		settle      = 3 * time.Second
	)
	if os.Getuid() != 0 {
		b.Fatal("it mounts file systems: it needs root")
	}
	etcdutl := filepath.Join(b.TempDir(), "etcdutl")
	if out, err := exec.Command("go", "build", "-o", etcdutl, "go.etcd.io/etcd/etcdutl/v3").CombinedOutput(); err != nil {
		b.Fatalf("build etcdutl: %v\n%s", err, out)
	}
	made := generate(b, 400_000, 5_900, 0)
	looked, err := Inspect(context.Background(), made, nil)
	if err != nil {
		b.Fatal(err)
	}
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(out, "file system\tsize\tsha256 alone\tetcdutl\tetcd-rewind\tratio\t≤\tmemory\t≤\tput, quiet\twith etcdutl\twith etcd-rewind\tratio\t≤\t\n")
	for _, fs := range []string{"ext4", "xfs"} {
		b.Run(fs, func(b *testing.B) {
			dir := mount(b, fs, 12<<30)
			path := filepath.Join(dir, "snapshot.db")
			copyFile(b, made, path)
			st, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			p := startProbe(b, filepath.Join(dir, "probe"))
			args := []string{"snapshot", "restore", path, "--name", "cp1", "--initial-advertise-peer-urls", "https://10.77.0.11:2380", "--initial-cluster", "cp1=https://10.77.0.11:2380", "--initial-cluster-token", "etcd-rewind-1", "--bump-revision", "1000000000", "--mark-compacted"}
			target := filepath.Join(dir, "etcd")
			req := request(path, target)
			req.RevisionBump, req.Token, req.ExpectSHA256 = 1_000_000_000, "etcd-rewind-1", looked.SHA256
			clear := func() {
				b.Helper()
				if err := os.RemoveAll(target); err != nil {
					b.Fatal(err)
				}
				run(b, "sync")
				time.Sleep(settle) // discarding, and whatever the kernel has put off
			}
			prepare := func() {
				b.Helper()
				err := sum(path) // a restore has just looked at it
				if _, serr := memory.Settle(4 << 30); serr != nil || err != nil {
					b.Fatal(errors.Join(err, serr))
				}
			}
			var hash, peer, ours []time.Duration
			var quiet, besidePeer, besideOurs []time.Duration
			var anonymous int64
			var quietSync, peerSync, oursSync syncs
			for b.Loop() {
				for range rounds {
					bytes := path
					if fs == "xfs" { // as cold as what a restore has to read there
						bytes = filepath.Join(dir, "shared.db")
						run(b, "cp", "--reflink=always", path, bytes)
					}
					prepare()
					hash = append(hash, took(b, func() error { return sum(bytes) }))
					if bytes != path {
						if err := os.Remove(bytes); err != nil {
							b.Fatal(err)
						}
					}
					clear()
					quiet = append(quiet, p.during(&quietSync, func() { time.Sleep(settle) })...)
					prepare()
					besidePeer = append(besidePeer, p.during(&peerSync, func() {
						peer = append(peer, took(b, func() error { return run(b, etcdutl, append(args, "--data-dir", target)...) }))
					})...)
					clear()
					prepare()
					mem := watchAnonymous()
					besideOurs = append(besideOurs, p.during(&oursSync, func() {
						ours = append(ours, took(b, func() error { _, err := Restore(context.Background(), req, nil); return err }))
					})...)
					anonymous = max(anonymous, mem())
					clear()
				}
			}
			h, e, o := median(hash), median(peer), median(ours)
			q, qe, qo := median(quiet), median(besidePeer), median(besideOurs)
			ratio, slower := o.Seconds()/e.Seconds(), qo.Seconds()/q.Seconds()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ratio, "ours/etcdutl")
			b.ReportMetric(slower, "put/quiet")
			b.ReportMetric(float64(anonymous)/1e6, "MB-anonymous")
			_, _ = fmt.Fprintf(out, "%s\t%.2f GB\t%.2f s\t%.2f s\t%.2f s\t%.2f\t%.2f\t%.0f MB\t%.0f\t%.2f ms\t%.2f ms\t%.2f ms\t%.1f\t%.0f\t\n",
				fs, float64(st.Size())/1e9, h.Seconds(), e.Seconds(), o.Seconds(), ratio, timeLimit, float64(anonymous)/1e6, memoryLimit,
				milliseconds(q), milliseconds(qe), milliseconds(qo), slower, probeLimit)
			b.Logf("etcdutl %v, etcd-rewind %v", peer, ours)
			b.Logf("1 put of 100 takes longer than %v quiet, %v beside etcdutl, %v beside etcd-rewind", worst(quiet), worst(besidePeer), worst(besideOurs))
			b.Logf("etcd's own mean of its fsyncs is %v quiet, %v beside etcdutl, %v beside etcd-rewind", quietSync.mean(), peerSync.mean(), oursSync.mean())
			if ratio > timeLimit || float64(anonymous)/1e6 > memoryLimit || slower > probeLimit {
				b.Errorf("over a limit: time %.2f of %.2f, memory %d MB of %.0f, puts %.1f of %.0f", ratio, timeLimit, anonymous/1e6, memoryLimit, slower, probeLimit)
			}
		})
	}
	_ = out.Flush()
	fmt.Print("\n", table.String())
}

// worst is what one of a hundred exceeds; all are sorted.
func worst(all []time.Duration) time.Duration { return all[len(all)*99/100] }

func sum(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(sha256.New(), f)
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

func run(b *testing.B, name string, args ...string) error {
	b.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func output(b *testing.B, name string, args ...string) string {
	b.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		b.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// mount makes a file system in a loop device that goes around the page cache,
// as a disk does.
func mount(b *testing.B, fs string, size int64) string {
	b.Helper()
	image, dir := filepath.Join(b.TempDir(), fs), filepath.Join(b.TempDir(), "mounted")
	run(b, "dd", "if=/dev/zero", "of="+image, "bs=4M", fmt.Sprintf("count=%d", size>>22), "oflag=direct")
	loop := output(b, "losetup", "--direct-io=on", "--show", "-f", image)
	b.Cleanup(func() { run(b, "losetup", "-d", loop) })
	run(b, "mkfs."+fs, "-q", loop)
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	run(b, "mount", loop, dir)
	b.Cleanup(func() { run(b, "umount", dir) })
	return dir
}

func copyFile(b *testing.B, from, to string) {
	b.Helper()
	run(b, "cp", from, to)
	makeOld(b, to)
}

const probeEnv = "SNAPSHOT_TEST_PROBE"

// probed is the process that startProbe starts: an etcd that is written to
// every few milliseconds, and reports how long each write took.
func probed(dir string) {
	err := func() error {
		loopback := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir = "probe", dir
		cfg.ListenPeerUrls, cfg.ListenClientUrls, cfg.ListenMetricsUrls = loopback, loopback, loopback
		cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = loopback, loopback
		cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
		cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			return err
		}
		defer e.Close()
		<-e.Server.ReadyNotify()
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // ends with who started it
			os.Exit(0)
		}()
		fmt.Printf("http://%s/metrics\n", e.Clients[0].Addr())
		client := v3client.New(e.Server)
		value := strings.Repeat("v", 1000)
		for i := 0; ; i++ {
			start := time.Now()
			if _, err := client.Put(context.Background(), fmt.Sprint(i%1000), value); err != nil {
				return err
			}
			end := time.Now()
			fmt.Printf("%d %d\n", end.UnixNano(), end.Sub(start))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// probe is an etcd beside the restore.
type probe struct {
	b       *testing.B
	metrics string
	mu      sync.Mutex
	puts    []put
}

type put struct {
	end  time.Time
	took time.Duration
}

func startProbe(b *testing.B, dir string) *probe {
	b.Helper()
	exe, err := trust.SelfPath()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), probeEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	out, oerr := cmd.StdoutPipe()
	if err := errors.Join(err, oerr); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		b.Fatal("the probe doesn't start")
	}
	p := &probe{b: b, metrics: lines.Text()}
	go func() {
		for lines.Scan() {
			at, took, _ := strings.Cut(lines.Text(), " ")
			a, err := strconv.ParseInt(at, 10, 64)
			d, derr := strconv.ParseInt(took, 10, 64)
			if errors.Join(err, derr) != nil {
				continue
			}
			p.mu.Lock()
			p.puts = append(p.puts, put{time.Unix(0, a), time.Duration(d)})
			p.mu.Unlock()
		}
	}()
	return p
}

// during are the times of the writes that ended while f ran. What etcd
// measured meanwhile itself is added to own.
func (p *probe) during(own *syncs, f func()) []time.Duration {
	before, start := p.fsyncs(), time.Now()
	f()
	end, after := time.Now(), p.fsyncs()
	own.count += after.count - before.count
	own.seconds += after.seconds - before.seconds
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []time.Duration
	for _, w := range p.puts {
		if w.end.After(start) && w.end.Before(end) {
			all = append(all, w.took)
		}
	}
	if len(all) == 0 {
		p.b.Fatal("the probe has written nothing meanwhile")
	}
	return all
}

// syncs are fsyncs of etcd's WAL, by its own metrics.
type syncs struct{ count, seconds float64 }

func (s syncs) mean() time.Duration {
	return time.Duration(s.seconds / s.count * 1e9).Round(time.Microsecond)
}

func (p *probe) fsyncs() (s syncs) {
	resp, err := http.Get(p.metrics)
	if err != nil {
		p.b.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "etcd_disk_wal_fsync_duration_seconds_sum":
			s.seconds, err = strconv.ParseFloat(value, 64)
		case "etcd_disk_wal_fsync_duration_seconds_count":
			s.count, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			p.b.Fatal(err)
		}
	}
	if s.count == 0 {
		p.b.Fatal("the probe's metrics have no fsyncs")
	}
	return s
}
