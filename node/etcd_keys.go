package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// EtcdKey is a key of a running etcd, and the state of it that was read.
type EtcdKey struct {
	Key         string
	ModRevision int64
}

// EtcdKeys are the keys that begin with prefix, most of them at most, from the
// first endpoint that answers. It writes nothing, and takes no longer than ctx or
// 5 seconds.
func EtcdKeys(ctx context.Context, cfg EtcdConfig, prefix string, most int) (keys []EtcdKey, err error) {
	err = atEtcd(ctx, cfg, func(ctx context.Context, kv pb.KVClient) error {
		all, err := kv.Range(ctx, &pb.RangeRequest{
			Key: []byte(prefix), RangeEnd: append([]byte(prefix[:len(prefix)-1]), prefix[len(prefix)-1]+1), KeysOnly: true, Limit: int64(most),
		})
		if err != nil {
			return etcdError("reading keys", err)
		}
		keys = nil
		for _, k := range all.Kvs {
			keys = append(keys, EtcdKey{string(k.Key), k.ModRevision})
		}
		return nil
	})
	return keys, err
}

// DeleteEtcdKey deletes a key if nobody has written it since it was read, and
// says with [ErrConflict] that somebody has. One that is gone already is no
// error.
func DeleteEtcdKey(ctx context.Context, cfg EtcdConfig, key EtcdKey) error {
	return atEtcd(ctx, cfg, func(ctx context.Context, kv pb.KVClient) error {
		name := []byte(key.Key)
		done, err := kv.Txn(ctx, &pb.TxnRequest{
			Compare: []*pb.Compare{{Result: pb.Compare_EQUAL, Target: pb.Compare_MOD, Key: name, TargetUnion: &pb.Compare_ModRevision{ModRevision: key.ModRevision}}},
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: name}}}},
			Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: name, KeysOnly: true}}}},
		})
		switch {
		case err != nil:
			return etcdError("deleting a key", err)
		case !done.Succeeded && len(done.Responses) > 0 && len(done.Responses[0].GetResponseRange().GetKvs()) > 0:
			return ErrConflict
		}
		return nil
	})
}

// atEtcd calls etcd at one endpoint after the other until one answers.
func atEtcd(ctx context.Context, cfg EtcdConfig, call func(context.Context, pb.KVClient) error) error {
	if len(cfg.Endpoints) == 0 {
		return errors.New("no endpoint known to ask etcd at")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var errs several
	for i, e := range cfg.Endpoints {
		end, _ := ctx.Deadline()
		share, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(len(cfg.Endpoints)-i))
		conn, err := dialEtcd(e, cfg)
		if err == nil {
			err = call(share, pb.NewKVClient(conn))
			_ = conn.Close()
		}
		cancel()
		if err == nil || errors.Is(err, ErrConflict) {
			return err
		}
		errs = append(errs, fmt.Errorf("etcd at %s: %w", e, err))
	}
	return errs
}
