package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"etcd-rewind/problem"
)

func TestABucketKeepsItsPromises(t *testing.T) {
	f, s := newFakeS3(t, "")
	storeKeepsItsPromises(t, s)
	if len(f.uploads) > 0 {
		t.Errorf("parts were left: %v", f.keys)
	}
	for key := range f.objects {
		if !strings.HasPrefix(key, "some/prefix/c") {
			t.Errorf("it wrote %s", key)
		}
	}
}

// What a store is sent has to come back, whatever happens on its way.
func TestABucketGetsOverWhatPasses(t *testing.T) {
	data := strings.Repeat("0123456789abcdef", 10_000) // five parts
	for name, fault := range map[string]func(n int64, w http.ResponseWriter, r *http.Request) bool{
		"every second request is a 503": func(n int64, w http.ResponseWriter, _ *http.Request) bool {
			if n%2 == 1 {
				http.Error(w, "<Error><Code>SlowDown</Code></Error>", http.StatusServiceUnavailable)
			}
			return n%2 == 1
		},
		"every second connection is cut": func(n int64, w http.ResponseWriter, _ *http.Request) bool {
			if n%2 == 1 {
				hangUp(w)
			}
			return n%2 == 1
		},
		"an answer is cut every 40,000 bytes": func(_ int64, w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet {
				return false
			}
			at := 0
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Header().Set("Content-Length", fmt.Sprint(len(data)-at))
			if at > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(data)-1, len(data)))
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = io.WriteString(w, data[at:min(at+40_000, len(data))])
			_ = http.NewResponseController(w).Flush()
			if at+40_000 < len(data) {
				hangUp(w)
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFakeS3(t, "")
			var n atomic.Int64
			f.fault = func(w http.ResponseWriter, r *http.Request) bool { return fault(n.Add(1), w, r) }
			if err := Keep(t.Context(), s, "c1/a.age", content(data), time.Minute); err != nil {
				t.Fatal(err)
			}
			if got := string(f.objects["some/prefix/c1/a.age"].data); got != data {
				t.Errorf("%d bytes are there", len(got))
			}
		})
	}
}

// The answer to what a store has done may be lost: then it is there already when
// it is tried again, and it is ours.
func TestAnAnswerThatIsLostIsNoSecondBackup(t *testing.T) {
	for name, size := range map[string]int{"in one request": 1000, "in parts": 100_000} {
		t.Run(name, func(t *testing.T) {
			f, s := newFakeS3(t, "")
			lost := false
			f.fault = func(w http.ResponseWriter, r *http.Request) bool {
				last := r.Method == http.MethodPut && !r.URL.Query().Has("uploadId") || r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
				if !last || lost {
					return false
				}
				lost = true
				was := f.fault
				f.fault = nil
				f.ServeHTTP(discard{}, r)
				f.fault = was
				hangUp(w)
				return true
			}
			if err := s.Put(t.Context(), "c1/a", strings.NewReader(strings.Repeat("x", size)), int64(size)); err != nil || !lost {
				t.Errorf("%v", err)
			}
		})
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// What doesn't pass ends at once, with its cause, and reveals no secret.
func TestABucketThatRefusesSaysWhy(t *testing.T) {
	echo := func(r *http.Request) string { return fmt.Sprint(r.Header) + fakeSecret }
	for name, c := range map[string]struct {
		fault func(f *fakeS3, w http.ResponseWriter, r *http.Request) bool
		says  string
	}{
		"forbidden": {func(f *fakeS3, w http.ResponseWriter, r *http.Request) bool {
			f.fail(w, 403, "AccessDenied", "Access Denied for "+echo(r))
			return true
		}, "AccessDenied"},
		"wrong secret": {func(f *fakeS3, w http.ResponseWriter, r *http.Request) bool {
			f.fail(w, 403, "SignatureDoesNotMatch", echo(r))
			return true
		}, "SignatureDoesNotMatch"},
		"no bucket": {func(f *fakeS3, w http.ResponseWriter, r *http.Request) bool {
			f.fail(w, 404, "NoSuchBucket", "The specified bucket does not exist")
			return true
		}, "NoSuchBucket"},
		"full": {func(f *fakeS3, w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				f.fail(w, 507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.")
			}
			return r.Method == http.MethodPut
		}, "StorageFull"},
		"broken": {func(_ *fakeS3, w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "<html>oops \x1b[31m</html>", 500)
			return true
		}, "500"},
		"led elsewhere": {func(f *fakeS3, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://127.0.0.1:1/bucket/x", http.StatusTemporaryRedirect)
			return true
		}, "307"},
		"another's clock": {func(f *fakeS3, w http.ResponseWriter, r *http.Request) bool {
			f.fail(w, 403, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too large.")
			return true
		}, "Skewed"},
		"endless answer": {func(_ *fakeS3, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("list-type") {
				_, _ = io.WriteString(w, "<ListBucketResult><Name>")
				for range 20 {
					_, _ = io.WriteString(w, strings.Repeat("a", 1<<20))
				}
			}
			return r.URL.Query().Has("list-type")
		}, "longer than 8 MiB"},
		"nested entities": {func(_ *fakeS3, w http.ResponseWriter, r *http.Request) bool {
			list := r.URL.Query().Has("list-type")
			if list {
				_, _ = io.WriteString(w, `<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ListBucketResult><Contents><Key>&b;</Key></Contents></ListBucketResult>`)
			}
			return list
		}, "entity"},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFakeS3(t, "")
			f.fault = func(w http.ResponseWriter, r *http.Request) bool { return c.fault(f, w, r) }
			err := Keep(t.Context(), s, "c1/a", content("x"), time.Minute)
			if err == nil {
				_, err = s.List(t.Context(), "")
			}
			p := problem.Of(err)
			if p == nil || !strings.Contains(p.Cause, c.says) {
				t.Fatalf("%v, want %s", err, c.says)
			}
			if text := p.Cause + p.Hint; strings.Contains(text, fakeSecret) || strings.ContainsAny(text, "\x1b\n") || strings.Contains(text, "AKIAIOSFODNN7EXAMPLE") {
				t.Errorf("it reveals: %q", text)
			}
			if p.Hint == "" && name != "nested entities" {
				t.Errorf("no hint: %s", p.Cause)
			}
		})
	}
}

// A store that takes, or gives, nothing more is given up, and tried again.
func TestABucketThatHangsIsGivenUp(t *testing.T) {
	for name, hangs := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"it doesn't answer": func(_ http.ResponseWriter, r *http.Request) bool { return true },
		"it stops in an answer": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || r.Header.Get("Range") != "" {
				return r.Method == http.MethodGet
			}
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFakeS3(t, "")
			s.pace.idle = 40 * time.Millisecond
			f.fault = func(w http.ResponseWriter, r *http.Request) bool {
				if !hangs(w, r) {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
				return true
			}
			err := Keep(t.Context(), s, "c1/a", content(strings.Repeat("x", 1000)), time.Minute)
			if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, "nothing for 40ms") {
				t.Errorf("%v", err)
			}
		})
	}
}

// A slow line is none that hangs: what is sent is a sign of life, though nothing
// more is read.
func TestWhatIsSentIsASignOfLife(t *testing.T) {
	_, s := newFakeS3(t, "")
	s.part = 4 << 20
	var read bool
	signs := 0
	ctx := context.WithValue(t.Context(), lifeKey{}, func() {
		if read {
			signs++
		}
	})
	err := s.Put(ctx, "c1/a", io.MultiReader(io.LimitReader(zeros{}, 4<<20), readerFunc(func([]byte) (int, error) {
		read = true
		return 0, io.EOF
	})), 4<<20)
	if err != nil || signs < 10 {
		t.Errorf("%d signs of life, %v", signs, err)
	}
}

// What changes while it is read isn't put together of two files.
func TestAnObjectThatIsSwappedWhileItIsReadIsNotPatched(t *testing.T) {
	f, s := newFakeS3(t, "")
	f.objects["some/prefix/c1/a"] = fakeObject{bytes.Repeat([]byte("a"), 100_000), "first", time.Now(), ""}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			f.objects["some/prefix/c1/a"] = fakeObject{bytes.Repeat([]byte("b"), 100_000), "second", time.Now(), ""}
			return false
		}
		w.Header().Set("Content-Length", "100000")
		w.Header().Set("ETag", `"first"`)
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		_, _ = w.Write(bytes.Repeat([]byte("a"), 50_000))
		_ = http.NewResponseController(w).Flush()
		hangUp(w)
		return true
	}
	r, err := s.Get(t.Context(), "c1/a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err == nil || len(got) != 50_000 || bytes.Contains(got, []byte("b")) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// An upload that fails leaves no parts that cost.
func TestAnUploadThatFailsLeavesNoParts(t *testing.T) {
	f, s := newFakeS3(t, "")
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("partNumber") == "3" {
			f.fail(w, 403, "AccessDenied", "no more")
			return true
		}
		return false
	}
	if err := s.Put(t.Context(), "c1/a", io.LimitReader(zeros{}, 100_000), 100_000); err == nil {
		t.Error("it is stored")
	}
	if len(f.uploads) > 0 || len(f.objects) > 0 {
		t.Errorf("left: %v %v", f.keys, f.objects)
	}
}

func TestABucketThatDoesNotKnowConditions(t *testing.T) {
	f, s := newFakeS3(t, "")
	f.noMatch = true
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("If-None-Match") != "" {
			f.fail(w, 501, "NotImplemented", "A header you provided implies functionality that is not implemented")
			return true
		}
		return false
	}
	for _, size := range []int64{10, 100_000} {
		name := fmt.Sprint("c1/", size)
		if err := s.Put(t.Context(), name, io.LimitReader(zeros{}, size), size); err != nil {
			t.Error(err)
		}
		if err := s.Put(t.Context(), name, io.LimitReader(zeros{}, size), size); !errors.Is(err, fs.ErrExist) {
			t.Errorf("again: %v", err)
		}
	}
}

// A lock that forbids deletion is no error of the store, and is asked once.
func TestWhatIsLockedIsKept(t *testing.T) {
	for _, versions := range []bool{false, true} {
		f, s := newFakeS3(t, "")
		f.version = versions
		if err := s.Put(t.Context(), "c1/a", strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
		f.locked["some/prefix/c1/a"] = time.Now().Add(time.Hour)
		f.asked = nil
		err := s.Delete(t.Context(), "c1/a")
		locked, ok := errors.AsType[*Locked](err)
		if !ok || locked.Name != "c1/a" || names(t, s, "") != "c1/a:1" {
			t.Errorf("versions %v: %v", versions, err)
		}
		if n := strings.Count(strings.Join(f.asked, "\n"), "DELETE"); n != 1 {
			t.Errorf("it was tried %d times", n)
		}
		f.locked = nil
		if err := s.Delete(t.Context(), "c1/a"); err != nil || names(t, s, "") != "" {
			t.Errorf("without a lock: %v", err)
		}
	}
}

// In a bucket that keeps versions a deleted backup would go on costing, and being
// there for whoever finds its key: the version itself is deleted.
func TestInABucketWithVersionsTheVersionIsDeleted(t *testing.T) {
	for name, size := range map[string]int64{"in one request": 1000, "in parts": 100_000} {
		t.Run(name, func(t *testing.T) {
			f, s := newFakeS3(t, "")
			f.version = true
			f.hidden["some/prefix/c1/a"] = []fakeObject{{id: "v0"}} // an older one, which is somebody else's to delete
			if err := s.Put(t.Context(), "c1/a", io.LimitReader(zeros{}, size), size); err != nil {
				t.Fatal(err)
			}
			f.asked = nil
			if err := s.Delete(t.Context(), "c1/a"); err != nil || len(f.objects) > 0 || len(f.hidden["some/prefix/c1/a"]) != 1 {
				t.Errorf("%v; there are %v, and %v", err, f.objects, f.hidden)
			}
			if all := strings.Join(f.asked, "\n"); strings.Count(all, "DELETE") != 1 || !strings.Contains(all, "DELETE /bucket/some/prefix/c1/a?versionId=v1") {
				t.Errorf("it asked for\n%s", all)
			}
		})
	}
}

// Where versions mustn't be deleted the name is: what becomes of the version is the
// bucket's to say, and no error.
func TestWhereNoVersionMayBeDeletedTheNameIs(t *testing.T) {
	f, s := newFakeS3(t, "")
	f.version, f.noDelete = true, true
	k := NewKey()
	for h := range 3 {
		put(t, s, aRecord(noon.Add(time.Duration(h)*time.Hour), "cp1"), k)
	}
	p := listed(t, s, k).Prune(t.Context(), Policy{Last: 1}, noon.Add(3*time.Hour), nil, false, time.Minute)
	if p.Failed != nil || len(p.Removed) != 2 || len(p.Locked) > 0 {
		t.Errorf("%+v", p)
	}
	if l := listed(t, s, k); len(l.Entries) != 1 || l.Entries[0].Err != nil {
		t.Errorf("%+v", l.Entries)
	}
	gone := aRecord(noon, "cp1").SnapshotName()
	if _, err := s.Stat(t.Context(), gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if n := len(f.hidden); n != 6 {
		t.Errorf("%d names have a delete marker", n)
	}
	if err := s.Delete(t.Context(), gone); err != nil || len(f.hidden["some/prefix/"+gone]) != 1 {
		t.Errorf("again: %v, %d delete markers", err, len(f.hidden["some/prefix/"+gone]))
	}
}

// A listing is read in pages, and what isn't a backup's costs no memory.
func TestAListingOfVeryManyObjects(t *testing.T) {
	f, s := newFakeS3(t, "")
	page := 0
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.WriteString(w, `<ListBucketResult>`)
		for i := range 1000 {
			_, _ = fmt.Fprintf(w, `<Contents><Key>some/prefix/logs/%d %d</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`, page, i)
		}
		if page == 40 {
			_, _ = io.WriteString(w, `<Contents><Key>some/prefix/c1/a</Key><Size>7</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`)
		}
		if page++; page < 100 {
			_, _ = fmt.Fprintf(w, `<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>`, page)
		}
		_, _ = io.WriteString(w, `</ListBucketResult>`)
		return true
	}
	if got := names(t, s, ""); got != "c1/a:7" || page != 100 {
		t.Errorf("%s after %d pages", got, page)
	}
}

func TestAListingWithoutEndIsGivenUp(t *testing.T) {
	f, s := newFakeS3(t, "")
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.WriteString(w, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken></ListBucketResult>`)
		return true
	}
	was := maxPages
	maxPages = 50
	defer func() { maxPages = was }()
	if _, err := s.List(t.Context(), ""); problem.Of(err) == nil || !strings.Contains(err.Error(), "doesn't end") {
		t.Errorf("%v", err)
	}
}

func TestLocationsOfBuckets(t *testing.T) {
	for location, want := range map[string]string{
		"s3://bucket":  "s3://bucket",
		"s3://bucket/": "s3://bucket",
		"s3://bucket/a/b/?region=eu-central-1&endpoint=minio.example:9000": "s3://bucket/a/b?endpoint=https://minio.example:9000&region=eu-central-1",
		"s3://b.c.d/x?endpoint=http://127.0.0.1:9000&path-style=true":      "s3://b.c.d/x?endpoint=http://127.0.0.1:9000&path-style=true",
		"s3://bucket?proxy=http://proxy.example:3128/":                     "s3://bucket?proxy=http://proxy.example:3128",
		"s3://bucket?profile=a%26b&ca=/etc/ca.crt&credentials=/etc/s3":     "s3://bucket?ca=/etc/ca.crt&credentials=/etc/s3&profile=a%26b",
	} {
		s, err := Open(location)
		if err != nil || s.Location() != want {
			t.Errorf("%s: %v %v", location, s, err)
			continue
		}
		if again, err := Open(s.Location()); err != nil || again.Location() != want {
			t.Errorf("%s: again %v %v", location, again, err)
		}
	}
	for _, location := range []string{
		"s3://", "s3:///x", "s3://bucket:80/x", "s3://user:hunter2@bucket/x", "s3://bucket/x?secret=hunter2", "s3://bucket/x?endpoint=ftp://hunter2",
		"s3://bucket/x?endpoint=https://user:hunter2@h", "s3://bucket/x?endpoint=h/path", "s3://bucket/../x", "s3://bucket/a//b", "s3://bucket?path-style=yes",
		"s3://bucket?ca=ca.crt", "s3://bucket?region=a&region=b", "s3://Bucket_", "s3://bucket?endpoint=-oProxy", "s3://bucket?proxy=http://user:hunter2@h", "s3://bucket?proxy=h:3128", "s3://bucket/%0a", "s3://bucket#hunter2",
	} {
		_, err := Open(location)
		if p := problem.Of(err); p == nil || p.Hint == "" || strings.Contains(p.Cause+p.Hint, "hunter2") {
			t.Errorf("%s: %v", location, err)
		}
	}
}

// Credentials come from where people keep them, and no error quotes a file.
func TestCredentialsAreFoundInTheUsualPlaces(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "s3")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = "+fakeSecret+"\n[half]\naws_access_key_id = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("hunter2\n[[["), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ query, env, says string }{
		"the environment":             {"", "", ""},
		"a file that is named":        {"&credentials=" + file, "", ""},
		"the file of Amazon's tools":  {"", file, ""},
		"a profile that isn't there":  {"&credentials=" + file + "&profile=none", "", "no credentials for the profile none"},
		"half a profile":              {"&credentials=" + file + "&profile=half", "", "no credentials for the profile half"},
		"a file that isn't there":     {"&credentials=" + dir + "/none", "", "no such file"},
		"a file that can't be parsed": {"&credentials=" + broken, "", "no credentials"},
		"nowhere":                     {"", dir + "/none", "no credentials for it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, s := newFakeS3(t, c.query)
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			t.Setenv("HOME", dir)
			if c.query != "" || c.env != "" {
				t.Setenv("AWS_ACCESS_KEY_ID", "")
				t.Setenv("AWS_SHARED_CREDENTIALS_FILE", c.env)
			}
			_, err := s.List(t.Context(), "")
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if err != nil {
				if p := problem.Of(err); p == nil || p.Hint == "" || strings.Contains(p.Cause, "hunter2") {
					t.Errorf("%v", err)
				}
			}
		})
	}
}
