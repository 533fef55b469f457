//go:build e2e && linux

package backup

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	minio "github.com/minio/minio-go/v7"

	"etcd-rewind/problem"
)

// Servers that others have written: versitygw for S3, OpenSSH for SFTP.

// freePort is a port of the loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// server is a process that listens on a port of the loopback, and its children.
type server struct {
	port string
	run  func() *exec.Cmd

	cmd   *exec.Cmd
	down  bool
	ended chan error
	said  bytes.Buffer
}

// serve runs a server until the test ends.
func serve(t *testing.T, port string, run func() *exec.Cmd) *server {
	t.Helper()
	s := &server{port: port, run: run}
	s.start(t)
	t.Cleanup(func() {
		s.kill(t)
		if t.Failed() {
			t.Logf("%s: %s", s.cmd.Path, s.said.String())
		}
	})
	return s
}

// start runs the server, again after a kill, and waits until it listens.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd, s.down, s.ended = s.run(), false, make(chan error, 1)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(s.cmd, s.ended)
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+s.port); err == nil {
			_ = c.Close()
			return
		}
		select {
		case err := <-s.ended:
			s.down = true
			t.Fatalf("%s: %v\n%s", s.cmd.Path, err, s.said.String())
		default:
		}
	}
	t.Fatalf("%s doesn't listen", s.cmd.Path)
}

// stop has the server and its children stand still, and returns their ids.
func (s *server) stop(t *testing.T) (pids []int) {
	t.Helper()
	pids = []int{s.cmd.Process.Pid}
	for i := 0; i < len(pids); i++ {
		if err := syscall.Kill(pids[i], syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v", pids[i], err)
		}
		for !standsStill(pids[i]) {
			time.Sleep(time.Millisecond)
		}
		pids = append(pids, children(pids[i])...)
	}
	return pids
}

// standsStill says whether a process is stopped, or has ended.
func standsStill(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(text), ") ")
	return err != nil || strings.ContainsAny(after[:1], "TtZX")
}

// kill ends the server and its children, which say goodbye to nobody. Safe to call
// twice.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if s.down {
		return
	}
	s.down = true
	for _, pid := range s.stop(t) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	<-s.ended
}

// children are the processes that one has started.
func children(pid int) (all []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, of := range tasks {
		text, _ := os.ReadFile(of)
		for field := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(field); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// realS3 is versitygw with TLS, and a bucket in it.
func realS3(t *testing.T, bucket string) (location string) {
	t.Helper()
	location, _, _ = realGateway(t, bucket, t.TempDir())
	return location
}

// realGateway is the same in a directory, with the process, and the directory below
// where it keeps what it is given.
func realGateway(t *testing.T, bucket, dir string) (location, data string, gateway *server) {
	t.Helper()
	out, err := exec.Command("../e2e/parts/build.sh", "versitygw").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, bin, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
	port := freePort(t)
	versions := filepath.Join(dir, "versions")
	data = filepath.Join(dir, "data")
	cert, key := certificate(t, dir)
	if err := errors.Join(os.Mkdir(data, 0o700), os.Mkdir(versions, 0o700)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "backup-user")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
	gateway = serve(t, port, func() *exec.Cmd {
		return exec.Command(filepath.Join(bin, "versitygw"), "--port", "127.0.0.1:"+port, "--access", "backup-user", "--secret", "hunter2hunter2",
			"--region", "eu-test-1", "--cert", cert, "--key", key, "posix", "--versioning-dir", versions, data)
	})
	location = fmt.Sprintf("s3://%s/clusters/prod?endpoint=https://127.0.0.1:%s&region=eu-test-1&ca=%s", bucket, port, cert)
	s := openReal(t, location).(*S3)
	c, err := s.core()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{ObjectLocking: bucket == "locked"}); err != nil {
		t.Fatal(err)
	}
	if bucket == "versions" {
		if err := c.EnableVersioning(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	return location, data, gateway
}

func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "store"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	err = errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func openReal(t *testing.T, location string) Store {
	t.Helper()
	s, err := Open(location)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestARealBucketKeepsItsPromises(t *testing.T) {
	for _, bucket := range []string{"plain", "versions", "locked"} {
		t.Run(bucket, func(t *testing.T) {
			s := openReal(t, realS3(t, bucket)).(*S3)
			s.part = 5 << 20 // the smallest that S3 takes
			storeKeepsItsPromises(t, s)
			// In parts, read back, and replaced by nothing.
			data := strings.Repeat("0123456789abcdef", 800_000)
			if err := Keep(t.Context(), s, "c1/large.age", content(data), time.Minute); err != nil {
				t.Fatal(err)
			}
			if err := s.Put(t.Context(), "c1/large.age", strings.NewReader(data), int64(len(data))); !errors.Is(err, os.ErrExist) {
				t.Errorf("put again: %v", err)
			}
			if err := s.Delete(t.Context(), "c1/large.age"); err != nil || strings.Contains(names(t, s, "c1/"), "large") {
				t.Errorf("deleted: %v", err)
			}
			if err := s.Put(t.Context(), "c1/large.age", strings.NewReader("again"), 5); err != nil {
				t.Errorf("put after it was deleted: %v", err)
			}
			// What was killed in the middle is found by where it would have been, and its age.
			c, err := s.core()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"c1/r1/killed.age", "c2/another.age"} {
				if _, err := c.NewMultipartUpload(t.Context(), bucket, s.key(name), minio.PutObjectOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				var seen []string
				err := s.Sweep(t.Context(), "c1/", func(u Unfinished) bool {
					if seen = append(seen, u.Name); u.Age.Abs() > time.Minute {
						t.Errorf("%s is %s old", u.Name, u.Age)
					}
					return true
				})
				if err != nil || len(seen) > 1 || len(seen) == 1 && seen[0] != "c1/r1/killed.age" {
					t.Errorf("%v, %v", seen, err)
				}
			}
			left, err := c.ListMultipartUploads(t.Context(), bucket, "", "", "", "", 100)
			if err != nil || len(left.Uploads) != 1 || left.Uploads[0].Key != s.key("c2/another.age") {
				t.Errorf("%+v, %v", left.Uploads, err)
			}
		})
	}
}

// An S3 server that knows nothing of an object but its lock says so, and is asked
// once.
func TestARealLockKeepsWhatItLocks(t *testing.T) {
	s := openReal(t, realS3(t, "locked")).(*S3)
	c, err := s.core()
	if err != nil {
		t.Fatal(err)
	}
	mode, days, unit := minio.Governance, uint(1), minio.Days
	if err := c.SetObjectLockConfig(t.Context(), "locked", &mode, &days, &unit); err != nil {
		t.Fatal(err)
	}
	if err := Keep(t.Context(), s, "c1/a.age", content("x"), time.Minute); err != nil {
		t.Fatal(err)
	}
	// The bucket's own lock, for which this server gives no date, and one of an object.
	for range 2 {
		err = s.Delete(t.Context(), "c1/a.age")
		locked, ok := errors.AsType[*Locked](err)
		if !ok || !errors.Is(err, ErrLocked) || names(t, s, "") != "c1/a.age:1" {
			t.Fatalf("%v", err)
		}
		if time.Until(locked.Until) > 23*time.Hour {
			return
		}
		until := time.Now().Add(24 * time.Hour)
		if err := c.PutObjectRetention(t.Context(), "locked", "clusters/prod/c1/a.age", minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until}); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("until when isn't shown: %v", err)
}

// What lies in a real store is unreadable there, and is a snapshot again where it
// is fetched: by its record, and by its URL.
func TestARestoreFromARealStore(t *testing.T) {
	id, k := identity(t), NewKey()
	data, sealed := sealedSnapshot(t, id.Recipient())
	dir, config, _ := realSFTP(t)
	for _, location := range []string{realS3(t, "plain"), "sftp://store" + dir + "?config=" + config} {
		s := openReal(t, location)
		r := putSnapshot(t, s, k, noon, "cp1", data, sealed)
		if got := read(t, s, r.SnapshotName()); !strings.HasPrefix(got, "age-encryption.org/v1") || strings.Contains(got, "/registry/") {
			t.Errorf("%s: it is readable", location)
		}
		p := Places{Stores: []Store{s}, Key: k}
		latest, _, err := p.Latest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		named, err := Source(t.Context(), latest.Name, k, ClusterID{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(staged(t, latest, id), staged(t, named, id)); err != nil {
			t.Errorf("%s: %v", location, err)
		}
		if err := staged(t, named, identity(t)); err == nil || !strings.Contains(err.Error(), "encrypted for other recipients") {
			t.Errorf("%s: with another identity: %v", location, err)
		}
		if s, ok := s.(*SFTP); ok {
			s.links.close()
		}
	}
}

func TestARealBucketThatRefuses(t *testing.T) {
	location := realS3(t, "plain")
	none := openReal(t, strings.Replace(location, "s3://plain/", "s3://another/", 1))
	unknown := openReal(t, location[:strings.Index(location, "&ca=")])
	err := Keep(t.Context(), none, "a", content("x"), time.Minute)
	if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, "NoSuchBucket") || !strings.Contains(p.Hint, "create the bucket another") {
		t.Errorf("no bucket: %v", err)
	}
	if _, err := unknown.List(t.Context(), ""); problem.Of(err) == nil || !strings.Contains(problem.Of(err).Hint, "ca=") {
		t.Errorf("an unknown authority: %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter3hunter3")
	err = Keep(t.Context(), openReal(t, location), "a", content("x"), time.Minute)
	if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, "SignatureDoesNotMatch") || strings.Contains(p.Cause+p.Hint, "hunter") {
		t.Errorf("another secret: %v", err)
	}
}

// realSFTP is sshd on the loopback, for this user, with keys of its own.
func realSFTP(t *testing.T) (dir, config, port string) {
	t.Helper()
	dir, config, host := realSSHD(t, t.TempDir())
	return dir, config, host.port
}

// realSSHD is the same in a directory, with the process.
func realSSHD(t *testing.T, at string) (dir, config string, host *server) {
	t.Helper()
	port := freePort(t)
	dir = filepath.Join(at, "backups")
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(at, key)).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(at, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(at, "ssh_config")
	settings := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nPidFile none\nUsePAM no\nSubsystem sftp internal-sftp\n", port, at, at)
	// A shared connection would be made where nothing can be written, as in the service.
	ssh := fmt.Sprintf("Host store\n ControlMaster auto\n ControlPath /nonexistent/%%C\n HostName 127.0.0.1\n Port %s\n IdentityFile %s/user\n IdentitiesOnly yes\n UserKnownHostsFile %s/known\n GlobalKnownHostsFile /dev/null\n", port, at, at)
	err = errors.Join(os.Mkdir(dir, 0o700), os.MkdirAll("/run/sshd", 0o755),
		os.WriteFile(filepath.Join(at, "sshd_config"), []byte(settings), 0o600), os.WriteFile(config, []byte(ssh), 0o600),
		os.WriteFile(filepath.Join(at, "known"), fmt.Appendf(nil, "[127.0.0.1]:%s %s", port, public), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	host = serve(t, port, func() *exec.Cmd {
		return exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(at, "sshd_config"))
	})
	return dir, config, host
}

func TestARealHostKeepsItsPromises(t *testing.T) {
	dir, config, _ := realSFTP(t)
	s := openReal(t, "sftp://store"+dir+"?config="+config).(*SFTP)
	defer s.links.close()
	storeKeepsItsPromises(t, s)
	data := strings.Repeat("0123456789abcdef", 800_000)
	if err := Keep(t.Context(), s, "c1/large.age", content(data), time.Minute); err != nil {
		t.Fatal(err)
	}
	// The connection ends in the middle: the file is gone on with.
	r, err := s.Get(t.Context(), "c1/large.age")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	half := make([]byte, 3_000_000)
	if _, err := io.ReadFull(r, half); err != nil {
		t.Fatal(err)
	}
	ended := 0
	for _, pid := range children(os.Getpid()) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if string(name) == "ssh\n" && syscall.Kill(pid, syscall.SIGKILL) == nil {
			ended++
		}
	}
	if ended == 0 {
		t.Fatal("there is no connection")
	}
	rest, err := io.ReadAll(r)
	if err != nil || string(half)+string(rest) != data {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*", ".etcd-rewind-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestARealHostThatLetsNobodyIn(t *testing.T) {
	dir, config, port := realSFTP(t)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	for from, c := range map[string]struct{ to, says string }{
		"/known": {"/unknown", "key is unknown"}, "/user\n": {"/host\n", "refuses the login"}, "Port " + port: {"Port 1", "no connection"},
	} {
		with := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(with, []byte(strings.Replace(string(text), from, c.to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = openReal(t, "sftp://store"+dir+"?config="+with).List(context.Background(), "")
		if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, c.says) || p.Hint == "" {
			t.Errorf("%s: %v", from, err)
		}
	}
}
