package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-rewind/problem"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// sickEtcd has its data on a disk that doesn't answer: what it knows by heart it
// tells, and of a snapshot it sends the pages that were in memory.
type sickEtcd struct {
	pb.UnimplementedMaintenanceServer
	pages int
}

func (s *sickEtcd) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Header: &pb.ResponseHeader{}, DbSize: 1 << 20}, nil
}

func (s *sickEtcd) Snapshot(_ *pb.SnapshotRequest, to pb.Maintenance_SnapshotServer) error {
	for range s.pages {
		if err := to.Send(&pb.SnapshotResponse{Blob: make([]byte, 4096), RemainingBytes: 1 << 20}); err != nil {
			return err
		}
	}
	<-to.Context().Done()
	return to.Context().Err()
}

func startSickEtcd(t *testing.T, pages int) Etcd {
	t.Helper()
	return serveMaintenance(t, &sickEtcd{pages: pages})
}

func serveMaintenance(t *testing.T, e pb.MaintenanceServer) Etcd {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterMaintenanceServer(srv, e)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return Etcd{Endpoints: []string{"http://" + l.Addr().String()}}
}

func TestAnEtcdThatStopsSendingIsNotWaitedForForEver(t *testing.T) {
	for name, pages := range map[string]int{"before the first byte": 0, "in the middle": 3} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			told := 0
			_, err := Save(t.Context(), SaveRequest{
				Etcd: startSickEtcd(t, pages), Path: filepath.Join(dir, "a.db"), Stall: 200 * time.Millisecond,
				Progress: func(p Progress) {
					if p.Phase == "save" {
						told++
					}
				},
			})
			p := problem.Of(err)
			if p == nil || p.Code != CodeStalled || p.Hint == "" || !strings.Contains(p.Cause, "has sent nothing for") {
				t.Errorf("%v", err)
			}
			if told != pages+1 {
				t.Errorf("%d times of its progress, want %d", told, pages+1)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestSavingFromAnEtcdThatHangsCanBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Save(ctx, SaveRequest{Etcd: startSickEtcd(t, 1), Path: filepath.Join(t.TempDir(), "a.db"), Stall: time.Hour, Progress: func(p Progress) {
		if p.Done > 0 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// falseEtcd sends a snapshot whose hash isn't that of its bytes.
type falseEtcd struct {
	sickEtcd
	data []byte
}

func (e *falseEtcd) Snapshot(_ *pb.SnapshotRequest, to pb.Maintenance_SnapshotServer) error {
	return errors.Join(to.Send(&pb.SnapshotResponse{Blob: e.data, RemainingBytes: 0}), to.Send(&pb.SnapshotResponse{Blob: make([]byte, 32)}))
}

// Who follows a save has what it has, or an error that says why not.
func TestASaveIsFollowed(t *testing.T) {
	read := func(to *[]byte) func(io.Reader) error {
		return func(r io.Reader) (err error) {
			*to, err = io.ReadAll(r)
			return err
		}
	}
	t.Run("to the end", func(t *testing.T) {
		_, at := liveFrom(t, "after", 0)
		var got []byte
		info, err := Save(t.Context(), SaveRequest{Etcd: *at, Path: filepath.Join(t.TempDir(), "a.db"), Scratch: true, Follow: read(&got)})
		if err != nil {
			t.Fatal(err)
		}
		saved, err := os.ReadFile(info.Path)
		if err != nil || !bytes.Equal(got, saved) {
			t.Errorf("%d bytes of %d, %v", len(got), len(saved), err)
		}
		want, err := Inspect(t.Context(), info.Path, nil)
		if err != nil || want.SHA256 != info.SHA256 || info.Hash != HashOK || want.Keys != info.Keys || want.Revision != info.Revision {
			t.Errorf("%+v %v", info, err)
		}
	})
	t.Run("by one that fails", func(t *testing.T) {
		full := errors.New("its disk is full")
		dir := t.TempDir()
		_, err := Save(t.Context(), SaveRequest{Etcd: startSickEtcd(t, 3), Path: filepath.Join(dir, "a.db"), Stall: time.Hour, Follow: func(io.Reader) error { return full }})
		if !errors.Is(err, full) {
			t.Error(err)
		}
		isEmpty(t, dir)
	})
	t.Run("by one that doesn't read it all", func(t *testing.T) {
		_, at := liveFrom(t, "after", 0)
		if _, err := Save(t.Context(), SaveRequest{Etcd: *at, Path: filepath.Join(t.TempDir(), "a.db"), Follow: func(io.Reader) error { return nil }}); err == nil {
			t.Error("it was saved")
		}
	})
	t.Run("from an etcd that stops", func(t *testing.T) {
		var got []byte
		_, err := Save(t.Context(), SaveRequest{Etcd: startSickEtcd(t, 3), Path: filepath.Join(t.TempDir(), "a.db"), Stall: 50 * time.Millisecond, Follow: read(&got)})
		wantProblem(t, err, CodeStalled)
	})
	t.Run("from an etcd that sends another hash", func(t *testing.T) {
		dir := t.TempDir()
		data, err := os.ReadFile(file(t, "b.db", fixture(t, "after")))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Save(t.Context(), SaveRequest{Etcd: serveMaintenance(t, &falseEtcd{data: data[:len(data)-32]}), Path: filepath.Join(dir, "a.db"), Follow: read(new([]byte))})
		wantProblem(t, err, CodeDamagedHash)
		isEmpty(t, dir)
	})
}
