package manifest_test

import (
	"fmt"

	"etcd-rewind/manifest"
)

const pod = `apiVersion: v1
kind: Pod
metadata: {name: etcd}
spec:
  volumes:
  - name: etcd-data
    hostPath: # where it has been since 2021
      path: /var/lib/etcd
      type: DirectoryOrCreate
`

// One value is changed, and not a byte beside it: comments and order stay.
func ExampleSetHostPath() {
	after, err := manifest.SetHostPath([]byte(pod), "etcd-data", "/var/lib/etcd-20261120-120000")
	if err != nil {
		panic(err)
	}
	fmt.Print(manifest.Diff("etcd.yaml", "etcd.yaml", []byte(pod), after))
	// Output:
	// --- etcd.yaml
	// +++ etcd.yaml
	// @@ -5,5 +5,5 @@
	//    volumes:
	//    - name: etcd-data
	//      hostPath: # where it has been since 2021
	// -      path: /var/lib/etcd
	// +      path: /var/lib/etcd-20261120-120000
	//        type: DirectoryOrCreate
}
