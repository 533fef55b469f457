package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"
	"time"
)

// elsewhere is a source whose bytes don't lie on this node.
func elsewhere(name string, data []byte) Source {
	return Source{Name: name, Open: func(context.Context) (*Stored, error) {
		return &Stored{ReadCloser: io.NopCloser(bytes.NewReader(data)), Size: int64(len(data)), ModTime: time.Unix(1_700_000_000, 0)}, nil
	}}
}

// What is stored elsewhere is staged, packed or not, and keeps its name and time.
func TestASnapshotFromElsewhereIsStagedUnderItsOwnName(t *testing.T) {
	raw := fixture(t, "before")
	for format, data := range map[Format][]byte{Raw: raw, Zstd: zstandard(t, raw), TarGzip: gzipped(t, tarred(t, member{"a.db", raw}))} {
		t.Run(string(format), func(t *testing.T) {
			dir := t.TempDir()
			const name = "store://nightly/etcd.db"
			s, err := Stage(t.Context(), elsewhere(name, data), dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if s.Name != name || s.Format != format || filepath.Dir(s.Path) != dir || !s.Copied() {
				t.Errorf("%+v", s)
			}
			if got, err := os.ReadFile(s.Path); err != nil || !bytes.Equal(got, raw) {
				t.Errorf("%d bytes were staged, want %d: %v", len(got), len(raw), err)
			}
			info, err := s.Inspect(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if info.Name != name || info.Path != s.Path || info.Packed != s || info.ModTime.Unix() != 1_700_000_000 || info.Hash != HashOK {
				t.Errorf("%+v", info)
			}
			if err := errors.Join(s.Remove(), s.Remove()); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestAFileThatIsNotASnapshotIsRefusedWhereverItLies(t *testing.T) {
	raw := fixture(t, "before")
	for name, c := range map[string]struct {
		data []byte
		code string
	}{
		"nothing":      {nil, CodeEmpty},
		"text":         {[]byte("<html>503 Service Unavailable</html>"), CodeNotBolt},
		"cut":          {raw[:len(raw)/2], CodeTruncated},
		"longer":       {append(slices.Clip(raw), make([]byte, aheadOnly+4096)...), CodeStructure},
		"cut and gz":   {gzipped(t, raw)[:10_000], CodeTruncated},
		"xz":           {[]byte("\xfd7zXZ\x00................"), CodeCompressed},
		"an empty tar": {tarred(t), CodeNotBolt},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Stage(t.Context(), elsewhere("store://x", c.data), dir, nil)
			if err == nil {
				_, err = s.Inspect(t.Context(), nil)
				if err := s.Remove(); err != nil {
					t.Error(err)
				}
			}
			wantProblem(t, err, c.code)
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// hung is a source that sends some bytes and then nothing, until it is closed.
type hung struct {
	io.Reader
	closed chan struct{}
}

func (h hung) Close() error { close(h.closed); return nil }

type silence struct{ until chan struct{} }

func (s silence) Read([]byte) (int, error) { <-s.until; return 0, io.EOF }

func TestASourceThatStopsSendingIsGivenUp(t *testing.T) {
	raw := zstandard(t, fixture(t, "before"))
	for name, sent := range map[string]int{"before the first byte": 0, "in the middle": len(raw) / 2} {
		t.Run(name, func(t *testing.T) {
			dir, until := t.TempDir(), make(chan struct{})
			h := hung{io.MultiReader(bytes.NewReader(raw[:sent]), silence{until}), make(chan struct{})}
			src := Source{Name: "a", Open: func(context.Context) (*Stored, error) {
				return &Stored{ReadCloser: h, Size: int64(len(raw))}, nil
			}}
			_, err := stage(t.Context(), src, dir, nil, 50*time.Millisecond)
			wantProblem(t, err, CodeStalled)
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			close(until) // the kernel lets go
			<-h.closed
		})
	}
}

// A mount whose server is gone hangs in open: it is given up, and what opens too
// late is closed.
func TestASourceThatDoesNotOpenIsGivenUp(t *testing.T) {
	until, h := make(chan struct{}), hung{closed: make(chan struct{})}
	src := Source{Open: func(context.Context) (*Stored, error) { <-until; return &Stored{ReadCloser: h}, nil }}
	_, err := src.open(t.Context(), 20*time.Millisecond)
	wantProblem(t, err, CodeStalled)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	late := hung{closed: make(chan struct{})}
	src.Open = func(context.Context) (*Stored, error) { <-until; return &Stored{ReadCloser: late}, nil }
	if _, err := src.open(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	close(until)
	<-h.closed
	<-late.closed
}

// One that is slow, and one that sends a byte at a time, are waited for.
func TestASlowSourceIsNotAStalledOne(t *testing.T) {
	raw := fixture(t, "before")
	data := zstandard(t, raw)
	src := Source{Name: "a", Open: func(context.Context) (*Stored, error) {
		return &Stored{ReadCloser: io.NopCloser(iotest.OneByteReader(bytes.NewReader(data))), Size: int64(len(data))}, nil
	}}
	s, err := Stage(t.Context(), src, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(s.Path); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("%d bytes were staged, want %d: %v", len(got), len(raw), err)
	}
}

func TestANameIsTheSameInAnyWorkingDirectory(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a.db": filepath.Join(wd, "a.db"), "/b/../a.db": "/a.db", "s3://bucket/a.db.zst": "s3://bucket/a.db.zst",
	} {
		if got := FullName(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
