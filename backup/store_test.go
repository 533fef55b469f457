package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

const idleInTests = time.Minute

func content(data string) Content {
	sum := sha256.Sum256([]byte(data))
	return Content{
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil },
		Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]),
	}
}

func read(t *testing.T, s Store, name string) string {
	t.Helper()
	r, err := s.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func names(t *testing.T, s Store, prefix string) string {
	t.Helper()
	list, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, o := range list {
		all = append(all, fmt.Sprintf("%s:%d", o.Name, o.Size))
	}
	return strings.Join(all, " ")
}

// storeKeepsItsPromises is what every kind of store has to do.
func storeKeepsItsPromises(t *testing.T, s Store) {
	put := func(name, data string) error {
		return s.Put(t.Context(), name, strings.NewReader(data), int64(len(data)))
	}
	if got := names(t, s, ""); got != "" {
		t.Fatalf("a new store has %s", got)
	}
	for name, data := range map[string]string{"c1/a.age": "first", "c1/a.json": "{}", "c1/b.age": "", "c2/a.age": "of another cluster"} {
		if err := put(name, data); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := names(t, s, "c1/"), "c1/a.age:5 c1/a.json:2 c1/b.age:0"; got != want {
		t.Errorf("has %s, want %s", got, want)
	}
	if got, want := names(t, s, "c"), "c1/a.age:5 c1/a.json:2 c1/b.age:0 c2/a.age:18"; got != want {
		t.Errorf("has %s, want %s", got, want)
	}
	if got := names(t, s, "c1/a.age/x"); got != "" {
		t.Errorf("below a file is %s", got)
	}
	if got := read(t, s, "c1/a.age"); got != "first" {
		t.Errorf("read %q", got)
	}
	if o, err := s.Stat(t.Context(), "c2/a.age"); err != nil || o.Size != 18 || time.Since(o.Time).Abs() > time.Hour {
		t.Errorf("%+v %v", o, err)
	}

	// What is there is not replaced.
	if err := put("c1/a.age", "second"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("put again: %v", err)
	}
	if got := read(t, s, "c1/a.age"); got != "first" {
		t.Errorf("then read %q", got)
	}

	// What doesn't come whole doesn't come at all.
	for what, r := range map[string]io.Reader{
		"short": strings.NewReader("abc"), "long": strings.NewReader("abcdefgh"),
		"broken": io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(errors.New("the disk is gone"))),
	} {
		if err := s.Put(t.Context(), "c1/half", r, 5); err == nil {
			t.Errorf("%s content was taken", what)
		}
		if _, err := s.Stat(t.Context(), "c1/half"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s content has left something: %v", what, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Put(ctx, "c1/half", readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }), 1<<28)
	if err == nil {
		t.Error("more was stored than there is")
	}
	if err := s.Put(ctx, "c1/half", strings.NewReader("12345"), 5); err == nil {
		t.Error("stored after its end")
	}
	if got, want := names(t, s, "c1/"), "c1/a.age:5 c1/a.json:2 c1/b.age:0"; got != want {
		t.Errorf("has %s, want %s", got, want)
	}

	// Of several at once, one comes through.
	var all sync.WaitGroup
	won := make(chan string, 8)
	for i := range cap(won) {
		all.Go(func() {
			data := strings.Repeat(fmt.Sprint(i), 100_000)
			if err := put("c1/race", data); err == nil {
				won <- data
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := read(t, s, "c1/race"); len(won) != 1 || got != <-won {
		t.Errorf("%d think that they stored it, and it begins with %.3s", len(won), got)
	}

	if err := s.Sweep(t.Context(), "", func(u Unfinished) bool { t.Errorf("%s is unfinished", u.Name); return false }); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.Delete(t.Context(), "c1/race"); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Get(t.Context(), "c1/race"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read what was deleted: %v", err)
	}
	for _, name := range []string{"", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/", ".hidden", "a/.hidden", "a b", "a\n", "-x", strings.Repeat("a", 300), "a/b/c/d/e/f/g/h/i"} {
		if put(name, "x") == nil || s.Delete(t.Context(), name) == nil {
			t.Errorf("%q is a name", name)
		}
		if _, err := s.Get(t.Context(), name); err == nil {
			t.Errorf("%q is read", name)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// liar is a store that isn't to be believed.
type liar struct {
	Store
	gets    func(io.ReadCloser) io.Reader
	deleted bool
}

func (l *liar) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := l.Store.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{l.gets(r), r}, nil
}

func (l *liar) Delete(ctx context.Context, name string) error {
	l.deleted = true
	return l.Store.Delete(ctx, name)
}

func TestWhatAStoreSaysThatItHasIsReadBack(t *testing.T) {
	data := strings.Repeat("0123456789", 1000)
	for name, c := range map[string]struct {
		gets func(io.ReadCloser) io.Reader
		says string
	}{
		"the truth":   {func(r io.ReadCloser) io.Reader { return r }, ""},
		"less":        {func(r io.ReadCloser) io.Reader { return io.LimitReader(r, 9000) }, "10000 bytes were sent, 9000 came back"},
		"nothing":     {func(io.ReadCloser) io.Reader { return strings.NewReader("") }, "0 came back"},
		"more":        {func(r io.ReadCloser) io.Reader { return io.MultiReader(r, strings.NewReader("x")) }, "more came back"},
		"without end": {func(io.ReadCloser) io.Reader { return readerFunc(func(p []byte) (int, error) { return len(p), nil }) }, "more came back"},
		"something else": {func(r io.ReadCloser) io.Reader {
			return io.MultiReader(strings.NewReader("9"), io.LimitReader(r, 9999))
		}, "its sha256 differs"},
		"an error": {func(io.ReadCloser) io.Reader { return iotest.ErrReader(errors.New("503 Slow Down")) }, "reading back what was stored: 503 Slow Down"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &liar{Store: &Directory{Path: t.TempDir()}, gets: c.gets}
			err := Keep(t.Context(), s, "c1/a.age", content(data), time.Minute)
			if c.says == "" {
				if err != nil || read(t, s, "c1/a.age") != data {
					t.Error(err)
				}
				return
			}
			if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, c.says) || !strings.Contains(p.Cause, s.Location()) {
				t.Errorf("%v, want %s", err, c.says)
			}
			if name != "an error" && (!s.deleted || names(t, s, "") != "") {
				t.Error("it is still there")
			}
		})
	}
}

// stuck is a store whose server is gone: nothing comes back, not even when nobody
// waits any more.
type stuck struct {
	Store
	until chan struct{}
}

func (s stuck) Put(ctx context.Context, _ string, content io.Reader, _ int64) error {
	_, err := defect.Await(ctx, func() (int, error) {
		_, _ = content.Read(make([]byte, 10))
		<-s.until
		return 0, nil
	})
	return err
}

func TestAStoreThatTakesNothingMoreIsGivenUp(t *testing.T) {
	s := stuck{&Directory{Path: t.TempDir()}, make(chan struct{})}
	defer close(s.until)
	err := Keep(t.Context(), s, "a", content("0123456789"), 30*time.Millisecond)
	if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, "nothing for 30ms") || p.Hint == "" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Keep(ctx, s, "a", content("0123456789"), time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A slow one is none that is stuck.
func TestAStoreThatIsSlowIsWaitedFor(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 50)
	c := content(string(data))
	c.Open = func() (io.ReadCloser, error) {
		slow := readerFunc(func(p []byte) (int, error) {
			if len(data) == 0 {
				return 0, io.EOF
			}
			time.Sleep(10 * time.Millisecond)
			n := copy(p[:1], data)
			data = data[n:]
			return n, nil
		})
		return io.NopCloser(slow), nil
	}
	if err := Keep(t.Context(), &Directory{Path: t.TempDir()}, "a", c, 400*time.Millisecond); err != nil {
		t.Error(err)
	}
}

func TestLocations(t *testing.T) {
	for location, want := range map[string]string{
		"file:///srv/backup": "file:///srv/backup", "file:///srv//backup/": "file:///srv/backup", "file:///mnt/nas?mounted=true": "file:///mnt/nas?mounted=true",
	} {
		s, err := Open(location)
		if err != nil || s.Location() != want {
			t.Errorf("%s: %v %v", location, s, err)
		}
	}
	for _, location := range []string{
		"", "/srv/backup", "backup", "file://host/srv", "file:///", "file:srv", "file:///srv?mount=true", "file:///srv?mounted=yes", "file:///srv#x",
		"ftp://host/x", "s3://user:secret@h:99999999/%zz", "%",
	} {
		_, err := Open(location)
		if p := problem.Of(err); p == nil || p.Hint == "" || strings.Contains(p.Cause, "secret") {
			t.Errorf("%s: %v", location, err)
		}
	}
}
