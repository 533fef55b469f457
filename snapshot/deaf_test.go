package snapshot

import (
	"context"
	"net"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"etcd-rewind/node/deaf"
)

// Nobody waits for an etcd that doesn't report its status, whatever it does
// instead, and nothing is left behind.
func TestSaveFromAnEtcdThatDoesNotAnswer(t *testing.T) {
	for _, way := range deaf.Ways {
		t.Run(string(way), func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer deaf.Serve(l, way, nil)()
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			dir, begun := t.TempDir(), time.Now()
			if _, err := Save(ctx, SaveRequest{Etcd: Etcd{Endpoints: []string{"http://" + l.Addr().String()}}, Path: dir}); err == nil {
				t.Error("it counts as an answer")
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			isEmpty(t, dir)
		})
	}
}

// sender is an etcd that reports its status, and sends a snapshot in its own way.
type sender struct {
	pb.UnimplementedMaintenanceServer
	send func(stream pb.Maintenance_SnapshotServer) error
}

func (sender) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{DbSize: 1 << 20}, nil
}

func (s sender) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) error {
	return s.send(stream)
}

// An etcd that stops sending is given up after the limit, and so is one that
// goes on without sending anything; one that sends more than it has said fills
// no disk.
func TestSaveFromAnEtcdThatDoesNotComeToAnEnd(t *testing.T) {
	endless := func(r *pb.SnapshotResponse) func(pb.Maintenance_SnapshotServer) error {
		return func(s pb.Maintenance_SnapshotServer) error {
			for {
				if err := s.Send(r); err != nil {
					return err
				}
			}
		}
	}
	stall := func(s pb.Maintenance_SnapshotServer) error { <-s.Context().Done(); return nil }
	for name, c := range map[string]struct {
		send func(pb.Maintenance_SnapshotServer) error
		code string
	}{
		"it never answers": {stall, CodeStalled},
		"headers, and nothing after": {func(s pb.Maintenance_SnapshotServer) error {
			_ = s.SendHeader(metadata.MD{})
			return stall(s)
		}, CodeStalled},
		"a part, and nothing after": {func(s pb.Maintenance_SnapshotServer) error {
			_ = s.Send(&pb.SnapshotResponse{Blob: make([]byte, 4096), RemainingBytes: 1 << 20})
			return stall(s)
		}, CodeStalled},
		"answers with nothing in them": {endless(&pb.SnapshotResponse{RemainingBytes: 1 << 20}), CodeStalled},
		"bytes without end":            {endless(&pb.SnapshotResponse{Blob: make([]byte, 4096), RemainingBytes: 1 << 20}), CodeTruncated},
		"more than it has announced":   {endless(&pb.SnapshotResponse{Blob: make([]byte, 4096), RemainingBytes: 0}), CodeTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := grpc.NewServer()
			pb.RegisterMaintenanceServer(srv, sender{send: c.send})
			go srv.Serve(l)
			defer srv.Stop()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			dir := t.TempDir()
			_, err = Save(ctx, SaveRequest{Etcd: Etcd{Endpoints: []string{"http://" + l.Addr().String()}}, Path: dir, Stall: 500 * time.Millisecond})
			wantProblem(t, err, c.code)
			isEmpty(t, dir)
		})
	}
}
