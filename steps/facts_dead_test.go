package steps

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// somewhere is a control plane that answers late or never. A time of 0 is at once,
// never is not before whoever asks gives up.
type somewhere struct {
	etcd    time.Duration
	status  *node.EtcdStatus
	etcdErr error
	api     time.Duration
	data    time.Duration // what reading it takes
	other   time.Duration

	asked  int           // how often etcd was
	gaveUp time.Duration // on kube-apiserver
	read   bool
}

const never = time.Hour

func answerAfter(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *somewhere) programs() programs {
	return programs{
		api: func(ctx context.Context, _ node.APIConfig, limit time.Duration) node.APIAnswer {
			begun := time.Now()
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			if err := answerAfter(ctx, s.api); err != nil {
				s.gaveUp = time.Since(begun)
				return node.APIAnswer{Err: err}
			}
			return node.APIAnswer{Code: 500}
		},
		etcd: func(ctx context.Context, _ node.EtcdConfig, countKeys bool) (*node.EtcdStatus, error) {
			s.asked++
			if err := answerAfter(ctx, s.etcd); err != nil {
				return s.status, err
			}
			return s.status, s.etcdErr
		},
		leases: func(context.Context, node.EtcdConfig) ([]string, error) { return []string{"10.0.0.9"}, nil },
		lastUsers: func(ctx context.Context, _ string) (*snapshot.LastUsers, error) {
			if err := answerAfter(ctx, s.data); err != nil {
				return nil, err
			}
			s.read = true
			return &snapshot.LastUsers{APIServers: []string{"10.0.0.8"}}, nil
		},
		otherAPI: func(ctx context.Context, _ string) bool { return answerAfter(ctx, s.other) == nil },
	}
}

// Discovery waits for nothing dead twice, nor for one after the other: these are the
// first seconds of a restore.
func TestDiscoveryWaitsForTheDeadOnce(t *testing.T) {
	_, refused := node.AskEtcd(t.Context(), node.EtcdConfig{Endpoints: []string{"http://" + closedPort(t)}}, true)
	if !node.Refused(refused) {
		t.Fatalf("%v isn't a refusal", refused)
	}
	for _, tt := range []struct {
		story   string
		at      somewhere
		took    time.Duration
		gaveUp  time.Duration
		state   string
		version string
		user    string
	}{
		{
			"etcd refuses, kube-apiserver takes requests and answers none",
			somewhere{etcdErr: refused, api: never},
			promptly, promptly, "no answer in time", "of the image", "10.0.0.8",
		},
		{
			"and etcd's data is on a slow disk",
			somewhere{etcdErr: refused, api: never, data: time.Second},
			time.Second, promptly, "no answer in time", "of the image", "10.0.0.8",
		},
		{
			"etcd refuses late",
			somewhere{etcd: time.Second, etcdErr: refused, api: never},
			time.Second, time.Second, "no answer in time", "of the image", "10.0.0.8",
		},
		{
			"both are silent, and so is the disk",
			somewhere{etcd: never, api: never, data: never},
			silence + 5*time.Second, patiently, "no answer in time", "of the image", "",
		},
		{
			"both are silent, and other API servers slow",
			somewhere{etcd: never, api: never, data: 2 * time.Second, other: time.Second},
			4 * time.Second, patiently, "no answer in time", "of the image", "10.0.0.8",
		},
		{
			"etcd has lost its quorum",
			somewhere{etcd: never, status: &node.EtcdStatus{Version: "3.6.10"}, data: time.Second},
			3 * time.Second, 0, "500 Internal Server Error", "3.6.10", "10.0.0.8",
		},
		{
			"etcd says that it has no leader",
			somewhere{status: &node.EtcdStatus{Version: "3.6.10"}, etcdErr: errors.New("no leader")},
			0, 0, "500 Internal Server Error", "3.6.10", "10.0.0.8",
		},
		{
			"etcd and kube-apiserver are slow",
			somewhere{etcd: 2 * time.Second, status: &node.EtcdStatus{Version: "3.6.10"}, api: 2 * time.Second, data: never},
			2 * time.Second, 0, "500 Internal Server Error", "3.6.10", "10.0.0.9",
		},
		{
			"kube-apiserver is silent and other API servers slow",
			somewhere{status: &node.EtcdStatus{Version: "3.6.10"}, api: never, other: time.Second},
			patiently, patiently, "no answer in time", "3.6.10", "10.0.0.9",
		},
	} {
		t.Run(tt.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &Facts{
					EtcdVersion: "of the image", Etcd: &Etcd{},
					API: &API{APISettings: manifest.APISettings{AdvertiseAddress: "10.0.0.1"}},
				}
				f.Reach.API.ReadyURL = "https://10.0.0.1:6443/readyz"
				begun := time.Now()
				f.askAll(t.Context(), tt.at.programs())
				took := time.Since(begun)
				synctest.Wait()
				if took != tt.took || tt.at.gaveUp != tt.gaveUp || tt.at.asked != 1 {
					t.Errorf("it took %s (%s), kube-apiserver was given up after %s (%s), etcd asked %d times", took, tt.took, tt.at.gaveUp, tt.gaveUp, tt.at.asked)
				}
				user := ""
				if len(f.Users()) > 0 {
					user = f.Users()[0]
				}
				if f.APIState != tt.state || f.EtcdVersion != tt.version || user != tt.user || len(f.OtherAPIServers) != min(1, len(user)) {
					t.Errorf("API %q, etcd %s, used by %q, others that answer: %q", f.APIState, f.EtcdVersion, user, f.OtherAPIServers)
				}
				if live := cmp.Or(tt.at.etcdErr, f.LiveErr) == nil; live != (f.Live != nil) || live && (tt.at.read || f.LastUsers != nil) {
					t.Errorf("live %v, %v; its data was read: %v", f.Live, f.LiveErr, tt.at.read)
				}
			})
		})
	}
}
