package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestACopyThatCannotBeWrittenIsNoFaultOfTheSnapshot(t *testing.T) {
	// In several pieces: etcd allocates ahead.
	path := file(t, "a.db", withTrailer(append(withoutTrailer(fixture(t, "before")), make([]byte, 3*pieceSize)...)))
	plain, err := inspectFile(inspectRequest{Path: path}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := unix.MemfdCreate("copy", unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sealed)
	// Space can be had for it, and it fails when it is written.
	if _, err := unix.FcntlInt(uintptr(sealed), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"in the middle": fmt.Sprintf("/proc/self/fd/%d", sealed), "no space": "/dev/full", "gone": filepath.Join(t.TempDir(), "gone"),
	} {
		t.Run(name, func(t *testing.T) {
			var done int64
			info, err := inspectFile(inspectRequest{Path: path, Copy: to}, nil, func(p Progress) {
				if p.Done < done {
					t.Errorf("it goes back from %d to %d", done, p.Done)
				}
				done = p.Done
			})
			if err != nil {
				t.Fatal(err)
			}
			if info.copied || info.SHA256 != plain.SHA256 || info.Hash != HashOK || info.Keys != plain.Keys {
				t.Errorf("copied %v, %s %s, %d keys", info.copied, info.Hash, info.SHA256, info.Keys)
			}
			if st, err := os.Stat(to); err == nil && st.Size() != 0 {
				t.Errorf("%d bytes are taken", st.Size())
			}
		})
	}
}
