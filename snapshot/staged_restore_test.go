package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// unpacked is a packed snapshot as a restore gets it: staged and inspected.
func unpacked(t *testing.T, data []byte) (*Staged, RestoreRequest) {
	t.Helper()
	s, err := Stage(t.Context(), elsewhere("s3://backups/monday.zst", zstandard(t, data)), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Remove() })
	info, err := s.Inspect(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req := request(s.Path, filepath.Join(t.TempDir(), "data"))
	req.ExpectSHA256 = info.SHA256
	return s, req
}

func inode(t *testing.T, path string) os.FileInfo {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestWhatWasUnpackedBecomesTheDatabase(t *testing.T) {
	whole := fixture(t, "before")
	copied, err := Restore(t.Context(), request(file(t, "a.db", whole), filepath.Join(t.TempDir(), "data")), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, req := unpacked(t, whole)
	before := inode(t, s.Path)
	got, err := s.Restore(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, copied) {
		t.Errorf("of the staging file: %+v\nof a copy: %+v", got, copied)
	}
	if !os.SameFile(before, inode(t, dbPath(req.DataDir))) {
		t.Error("it was copied once more")
	}
	if _, err := os.Stat(s.Path); !os.IsNotExist(err) {
		t.Errorf("the staging file: %v", err)
	}
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
}

func TestAStagingFileThatSomebodyReadsIsCopied(t *testing.T) {
	s, req := unpacked(t, fixture(t, "before"))
	release := reads(s.Path)
	if _, err := s.Restore(t.Context(), req, nil); err != nil {
		t.Fatal(err)
	}
	release()
	if os.SameFile(inode(t, s.Path), inode(t, dbPath(req.DataDir))) {
		t.Error("it was taken from who read it")
	}
	// And as nobody does now, it is used up.
	req.DataDir += "-again"
	if _, err := s.Restore(t.Context(), req, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Path); !os.IsNotExist(err) {
		t.Errorf("the staging file: %v", err)
	}
}

func TestAStagingFileThatWasChangedIsNotTheOneThatWasInspected(t *testing.T) {
	s, req := unpacked(t, fixture(t, "before"))
	data, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(s.Path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Restore(t.Context(), req, nil)
	wantProblem(t, err, CodeDamagedHash)
	_, err = s.Inspect(t.Context(), nil)
	wantProblem(t, err, CodeDamagedHash)
	if _, err := os.Stat(s.Path); err != nil {
		t.Error(err)
	}
}

func TestWhatWasUnpackedIsHashedOnItsWay(t *testing.T) {
	whole := fixture(t, "before")
	for name, c := range map[string]struct {
		data []byte
		hash Hash
		code string
	}{
		"with its trailer":     {whole, HashOK, ""},
		"a copied data file":   {withoutTrailer(whole), HashMissing, ""},
		"with another trailer": {append(withoutTrailer(whole), make([]byte, 32)...), "", CodeDamagedHash},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Stage(context.Background(), elsewhere("s3://backups/monday.zst", zstandard(t, c.data)), t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Remove() }()
			info, err := s.Inspect(t.Context(), nil)
			if c.code != "" {
				wantProblem(t, err, c.code)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			plain, err := Inspect(t.Context(), file(t, "a.db", c.data), nil)
			if err != nil {
				t.Fatal(err)
			}
			if info.Hash != c.hash || info.SHA256 != plain.SHA256 {
				t.Errorf("%s %s, read from a file %s %s", info.Hash, info.SHA256, plain.Hash, plain.SHA256)
			}
		})
	}
}

func TestASnapshotIsCopiedWhileItIsInspectedForARestoreAtOnce(t *testing.T) {
	whole, dir := fixture(t, "before"), t.TempDir()
	path := file(t, "a.db", whole)
	plain, err := Inspect(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	info, s, err := InspectAndCopy(t.Context(), path, dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(info, plain) {
		t.Errorf("beside a copy: %+v\nalone: %+v", info, plain)
	}
	copied := inode(t, s.Path)
	req := request(s.Path, filepath.Join(dir, "data"))
	req.ExpectSHA256 = info.SHA256
	got, err := s.Restore(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Keys != info.Keys || got.Revision != info.Revision || !os.SameFile(copied, inode(t, dbPath(req.DataDir))) {
		t.Errorf("%+v of %+v", got, info)
	}
	if again, err := Inspect(t.Context(), path, nil); err != nil || again.SHA256 != info.SHA256 {
		t.Errorf("the user's own file: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, unpackedPrefix+"*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestACopyThatCannotBeRenamedIsCopied(t *testing.T) {
	info, s, err := InspectAndCopy(t.Context(), file(t, "a.db", fixture(t, "before")), t.TempDir(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Remove() }()
	defer reads(s.Path)() // what a directory on another file system does
	req := request(s.Path, filepath.Join(t.TempDir(), "data"))
	req.ExpectSHA256 = info.SHA256
	if got, err := s.Restore(t.Context(), req, nil); err != nil || got.Keys != info.Keys {
		t.Error(got, err)
	}
}

func TestWhatIsNotASnapshotLeavesNoCopy(t *testing.T) {
	whole := fixture(t, "before")
	damaged := append(withoutTrailer(whole), make([]byte, 32)...)
	for name, c := range map[string]struct {
		data []byte
		code string
	}{
		"damaged": {damaged, CodeDamagedHash}, "cut off": {whole[:len(whole)-16384], CodeTruncated}, "no snapshot": {[]byte("hello"), CodeNotBolt},
		"without a trailer": {withoutTrailer(whole), ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path := t.TempDir(), file(t, "a.db", c.data)
			makeOld(t, path)
			_, s, err := InspectAndCopy(t.Context(), path, dir, 0, nil)
			if c.code != "" {
				wantProblem(t, err, c.code)
			} else if err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(dir); s != nil || err != nil || len(left) > 0 {
				t.Errorf("%v, %v is left, %v", s, left, err)
			}
		})
	}
}

func TestNoOtherFileHasToDoWithoutTheRoomOfACopy(t *testing.T) {
	dir := t.TempDir()
	free, err := freeBytes(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, s, err := InspectAndCopy(t.Context(), file(t, "a.db", fixture(t, "before")), dir, free, nil)
	if err != nil || info.Hash != HashOK {
		t.Fatal(info, err)
	}
	if left, err := os.ReadDir(dir); s != nil || err != nil || len(left) > 0 {
		t.Errorf("%v is there, %v", left, err)
	}
}

// On a network mount the server's time of a file may come later.
func TestAStagingFileWithAnotherTimeIsStillAnUnpackedSnapshot(t *testing.T) {
	s, req := unpacked(t, fixture(t, "before"))
	makeOld(t, s.Path)
	info, err := s.Inspect(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.Packed != s || !info.ModTime.Equal(s.modTime) || info.SHA256 != req.ExpectSHA256 {
		t.Errorf("%+v, %s, %s", info.Packed, info.ModTime, info.SHA256)
	}
}
