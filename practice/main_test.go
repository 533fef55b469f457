package practice

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"etcd-rewind/snapshot"
)

func TestMain(m *testing.M) {
	snapshot.Worker()
	Worker()
	if home := os.Getenv(holdEnv); home != "" {
		hold(home)
	}
	goleak.VerifyTestMain(m)
}
