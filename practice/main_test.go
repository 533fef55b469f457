package practice

import (
	"os"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"etcd-rewind/snapshot"
)

func TestMain(m *testing.M) {
	snapshot.Worker()
	Worker()
	if os.Getenv(rootEnv) != "" { // etcd-rewind, in the shell of an exercise
		root := &cobra.Command{Use: "etcd-rewind"}
		root.AddCommand(Command(nil))
		os.Exit(execute(root, os.Args[1:]))
	}
	if home := os.Getenv(startEnv); home != "" {
		root := &cobra.Command{Use: "etcd-rewind"}
		root.AddCommand(Command(nil))
		os.Exit(execute(root, []string{"practice", "exam", "--by-hand", "--no-namespaces", "--home", home}))
	}
	if home := os.Getenv(holdEnv); home != "" {
		hold(home)
	}
	goleak.VerifyTestMain(m)
}
