package snapshot

import (
	"context"
	"errors"
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterMaintenanceServer(srv, &sickEtcd{pages: pages})
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
