package outbox_test

import (
	"fmt"
	"time"

	"etcd-rewind/outbox"
)

// What is put in never waits for whoever reads, and is written in its order.
func Example() {
	out := outbox.New(func(line string) { fmt.Println(line) }, func(waiting []string, one string) []string { return append(waiting, one) })
	out.Put("etcd is stopped")
	out.Put("etcd is started")
	if err := out.Close(time.Minute); err != nil {
		fmt.Println(err) // nobody reads
	}
	// Output:
	// etcd is stopped
	// etcd is started
}
