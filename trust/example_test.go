package trust_test

import (
	"fmt"

	"etcd-rewind/trust"
)

// What a node or a snapshot is called moves no cursor and hides nothing.
func ExampleText() {
	fmt.Println(trust.Text("cp1\x1b[2J\u202e gnp.exe"))
	// Output: cp1 gnp.exe
}

// A command that people paste has each value as one word.
func ExampleShell() {
	fmt.Println(trust.Shell("mv %s %s", "/etc/kubernetes/manifests/etcd.yaml", "/tmp/it's here; reboot"))
	// Output: mv /etc/kubernetes/manifests/etcd.yaml '/tmp/it'\''s here; reboot'
}

func ExampleHost() {
	fmt.Println(trust.Host("cp2.example"))
	fmt.Println(trust.Host("-oProxyCommand=reboot"))
	// Output:
	// <nil>
	// "-oProxyCommand=reboot" is neither a DNS name nor an IP address
}
