package snapshot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// SaveRequest says what to save, and where.
type SaveRequest struct {
	Etcd Etcd
	// Path is the file to write, or an existing directory: the file's name is
	// then made of node, revision and time. "" is the working directory.
	Path string
	Node string // for the name; may be empty
	// Stall is how long etcd may send nothing; 0 means 20 seconds.
	Stall time.Duration
	// Progress may be nil; its phases are "save", "sync" and "hash".
	Progress func(Progress)
	// Scratch is for a file that nobody needs after a crash: it isn't brought to the
	// disk.
	Scratch bool
	// Brief is for a file that isn't read back: its hash is compared as it comes, and
	// Info has its size, its hash and the revision that etcd said before.
	Brief bool
	// Pace is how fast etcd is read, bytes per second at most; 0 is as fast as it sends.
	Pace int64
	// Follow is given the snapshot to read while it is written, on a goroutine of
	// its own; it may be nil. It reads to the end, which comes only when the trailer
	// is the sha256 of the rest, and knows the sha256 of the whole then
	// (PlainSHA256). An error of it ends the save. What it has read is a snapshot
	// when Save has returned without an error.
	Follow func(io.Reader) error
}

// Save takes a snapshot of a running etcd. It is written aside with mode 0600,
// brought to the disk, read back and verified, and only then gets its name; an
// existing file is never overwritten. A call that fails or is cancelled leaves
// nothing behind; so does an etcd that stops sending (CodeStalled): one on a sick
// disk answers questions and sends no snapshot. Safe to call twice: each call
// makes a file of its own, or is refused.
func Save(ctx context.Context, req SaveRequest) (*Info, error) {
	tell := req.Progress
	if tell == nil {
		tell = func(Progress) {}
	}
	dir, name, err := saveTarget(req.Path)
	if err != nil {
		return nil, err
	}
	var opts []grpc.DialOption
	if req.Pace > 0 { // or etcd sends megabytes ahead in one go
		opts = []grpc.DialOption{grpc.WithStaticStreamWindowSize(paceBurst), grpc.WithStaticConnWindowSize(paceBurst)}
	}
	l, err := dial(ctx, req.Etcd, opts...)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if free, err := freeBytes(dir); err == nil && l.status.DbSize+keepFree > free {
		return nil, problem.Coded(CodeNoSpace, "free some space there, or save to another disk",
			"the database has %d MB, %s has %d MB free", l.status.DbSize/1e6, dir, free/1e6)
	}
	f, err := os.CreateTemp(dir, ".etcd-rewind-saving-*") // mode 0600
	if err != nil {
		return nil, targetProblem(err)
	}
	aside := f.Name()
	defer func() { _ = os.Remove(aside) }() // renamed, or not worth keeping
	info, err := l.save(ctx, f, req, tell)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		if problem.Of(err) == nil && errors.As(err, new(*fs.PathError)) {
			err = targetProblem(err)
		}
		return nil, err
	}
	if info.Hash != HashOK {
		return nil, problem.Coded(CodeTruncated, "try again", "etcd sent no sha256 trailer")
	}
	if name == "" {
		name = saveName(req.Node, info.Revision, time.Now())
	}
	info.Path = filepath.Join(dir, name)
	info.Name = info.Path
	if err := giveName(aside, info.Path); err != nil {
		return nil, err
	}
	return info, nil
}

// save downloads into a file, and verifies it.
func (l *live) save(ctx context.Context, f *os.File, req SaveRequest, tell func(Progress)) (*Info, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := Grow(f)
	whole := newHashed(g.Reader(nil))
	followed := make(chan error, 1)
	if req.Follow == nil {
		followed <- nil
	} else {
		go defect.Do(func() {
			err := req.Follow(whole)
			if err == nil && !whole.all {
				err = errors.New("the snapshot wasn't read to its end")
			}
			if err != nil {
				cancel(err)
			}
			followed <- err
		})()
	}
	info, err := l.fill(ctx, g, req, tell)
	if ctx.Err() != nil {
		err = context.Cause(ctx) // the caller's, or what went wrong with who follows
		g.End(err)
	}
	ferr := <-followed
	switch {
	case err != nil && problem.HasCode(ferr, CodeDamagedHash): // that explains whatever the content shows
		return nil, ferr
	case err != nil:
		return nil, err
	case ferr != nil:
		return nil, ferr
	case req.Follow != nil && info.Hash == HashUnchecked:
		info.Hash, info.SHA256 = HashOK, whole.content()
	}
	return info, nil
}

func (l *live) fill(ctx context.Context, g *Growing, req SaveRequest, tell func(Progress)) (*Info, error) {
	comes := newTrailed()
	to := io.Writer(g)
	if req.Brief {
		to = io.MultiWriter(g, comes)
	}
	err := l.download(ctx, paced(ctx, to, req.Pace), cmp.Or(req.Stall, stallLimit), tell)
	g.End(err)
	if err == nil && !req.Scratch {
		tell(Progress{Phase: "sync"})
		err = g.f.Sync()
	}
	if err != nil {
		return nil, err
	}
	var info *Info
	if req.Brief {
		info, err = comes.named(g.f.Name(), l.status.GetHeader().GetRevision())
	} else {
		debug.FreeOSMemory() // what the download needed; the worker needs as much again
		info, err = inspect(ctx, inspectRequest{Path: g.f.Name(), Hashed: req.Follow != nil}, func(done, total int64) { tell(Progress{Phase: "hash", Done: done, Total: total}) })
	}
	if err != nil {
		return nil, fmt.Errorf("the saved file is damaged: %w", err)
	}
	return info, nil
}

// paced writes no more than pace bytes per second, without haste after a delay; 0 is
// no limit.
func paced(ctx context.Context, to io.Writer, pace int64) io.Writer {
	if pace == 0 {
		return to
	}
	return &pacedWriter{ctx, to, rate.NewLimiter(rate.Limit(pace), paceBurst)}
}

// paceBurst is how much may come at once, bytes. etcd sends 32 KiB at a time
// (server/etcdserver/api/v3rpc/maintenance.go).
const paceBurst = 64 << 10

type pacedWriter struct {
	ctx context.Context
	to  io.Writer
	r   *rate.Limiter
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	for n := len(p); n > 0; n -= paceBurst {
		if err := w.r.WaitN(w.ctx, min(n, paceBurst)); err != nil {
			return 0, err
		}
	}
	return w.to.Write(p)
}

// named is what is known of a file that was written with what came.
func (t *trailed) named(path string, revision int64) (*Info, error) {
	info, err := Quick(path)
	if err != nil {
		return nil, err
	}
	if t.prove(info) != nil {
		return nil, problem.Coded(CodeDamagedHash, "try again", "its sha256 is not the one that etcd sent")
	}
	info.Revision = revision
	return info, nil
}

// saveTarget refuses early what giveName would refuse after minutes.
func saveTarget(path string) (dir, name string, err error) {
	if path == "" {
		path = "."
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", "", err
	}
	switch st, err := os.Lstat(path); {
	case err == nil && st.IsDir():
		return path, "", nil
	case err == nil:
		if to, serr := os.Stat(path); serr == nil && to.IsDir() {
			return path, "", nil
		}
		return "", "", existsProblem(path)
	case !errors.Is(err, fs.ErrNotExist):
		return "", "", targetProblem(err)
	}
	dir, name = filepath.Split(path)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return "", "", problem.Coded(CodeTarget, "create it first, or check the path", "%s is not a directory", filepath.Clean(dir))
	}
	return dir, name, nil
}

func existsProblem(path string) *problem.Problem {
	return problem.Coded(CodeTarget, "choose another name; a snapshot is never overwritten", "%s exists already", path)
}

func saveName(node string, revision int64, now time.Time) string {
	if node != "" {
		node += "-"
	}
	return fmt.Sprintf("etcd-%srev%d-%s.db", strings.Map(func(r rune) rune {
		if r == '/' || r < ' ' {
			return '_'
		}
		return r
	}, node), revision, now.UTC().Format("20060102-150405"))
}

// giveName renames without replacing: a link is refused where a file is.
func giveName(aside, path string) error {
	switch err := os.Link(aside, path); {
	case err == nil:
		if err := os.Remove(aside); err != nil {
			return targetProblem(err)
		}
	case errors.Is(err, fs.ErrExist):
		return existsProblem(path)
	default:
		// A file system without links.
		if _, err := os.Lstat(path); err == nil {
			return existsProblem(path)
		}
		if err := os.Rename(aside, path); err != nil {
			return targetProblem(err)
		}
	}
	if _, err := syncPath(filepath.Dir(path)); err != nil {
		return targetProblem(err)
	}
	return nil
}

// stallLimit is for the next bytes of a snapshot. A disk that is merely busy
// makes etcd wait for seconds.
const stallLimit = 20 * time.Second

// download writes what etcd sends: the database and the hash of it.
func (l *live) download(ctx context.Context, f io.Writer, stall time.Duration, tell func(Progress)) error {
	var done, total, most int64
	stalled := errors.New("stalled")
	ctx, watch := defect.Watch(ctx, stall, stalled)
	defer watch.Stop()
	tell(Progress{Phase: "save", Total: l.status.DbSize})
	stream, err := pb.NewMaintenanceClient(l.conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return fmt.Errorf("asking %s for a snapshot: %w", l.endpoint, grpcError(err))
	}
	for {
		resp, err := stream.Recv()
		if len(resp.GetBlob()) > 0 {
			watch.Pause() // what follows is this disk's time
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(context.Cause(ctx), stalled) {
			return problem.Coded(CodeStalled, "check its log and its disk (dmesg); once etcd is stopped, member/snap/db of its data directory can be restored too",
				"etcd at %s has sent nothing for %.0f s, after %d bytes of the snapshot", l.endpoint, stall.Seconds(), done)
		}
		if err != nil {
			return fmt.Errorf("the snapshot from %s was interrupted after %d bytes: %w", l.endpoint, done, grpcError(err))
		}
		// The first answer says how much there is, without the hash at the end.
		if most == 0 {
			total = int64(len(resp.Blob)) + int64(min(resp.RemainingBytes, maxDatabase))
			most = total + sha256.Size
		}
		if done+int64(len(resp.Blob)) > most {
			return problem.Coded(CodeTruncated, "is the server at that address an etcd?", "etcd at %s sends more than the %d bytes that it announced for the snapshot", l.endpoint, most)
		}
		n, err := f.Write(resp.Blob)
		if err != nil {
			return targetProblem(err)
		}
		done += int64(n)
		tell(Progress{Phase: "save", Done: done, Total: max(total, done)})
		if n > 0 {
			watch.Alive()
		}
	}
	if done <= sha256.Size {
		return problem.Coded(CodeTruncated, "try again", "etcd sent %d bytes", done)
	}
	return nil
}
