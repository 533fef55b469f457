package backup

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	minio "github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// S3 is a store in a bucket, of Amazon's or of whatever else speaks S3. What is
// sent has a Content-MD5 and nothing newer, which all of them accept, also for a
// bucket with Object Lock. An object appears whole or not at all: S3 gives it its
// name when the last byte has come.
//
// One that is there isn't replaced: it is looked for before, and the store is
// sent If-None-Match. A store that doesn't know that could still replace one that
// somebody else puts in the very same moment.
type S3 struct {
	bucket, prefix string // prefix without a slash at its ends
	endpoint       *url.URL
	amazon         bool // endpoint is made of the region, or found by the bucket
	region         string
	pathStyle      string // true, false, or "" for what the endpoint suggests
	ca             string // file
	credentials    string // file
	profile        string
	proxy          *url.URL // nil for the one that the environment names

	part int64 // bytes
	pace pace

	mu        sync.Mutex
	client    *minio.Core // made by the first call
	creds     *credentials.Credentials
	transport *http.Transport
}

const s3Hint = "a bucket's location is s3://BUCKET/PREFIX, and for a store other than Amazon's ?endpoint=https://HOST:PORT"

// s3Parameters are what a location may have after its ?, in the order in which
// Location names them.
var s3Parameters = []string{"endpoint", "region", "path-style", "ca", "credentials", "profile", "proxy"}

// openS3 makes a store of s3://bucket/prefix?endpoint=…&region=…&path-style=…&ca=…
func openS3(u *url.URL) (*S3, error) {
	q, err := query(u, s3Parameters)
	if err != nil {
		return nil, problem.New("it takes "+strings.Join(s3Parameters, "=, ")+"=; credentials never belong there", "not the location of a bucket: %s", err)
	}
	s := &S3{
		bucket: u.Host, prefix: strings.Trim(u.Path, "/"), region: q["region"], pathStyle: q["path-style"],
		ca: q["ca"], credentials: q["credentials"], profile: q["profile"], part: partSize, pace: defaultPace,
	}
	if err := s3utils.CheckValidBucketNameStrict(s.bucket); err != nil {
		return nil, problem.New(s3Hint, "not the name of a bucket: %q", trust.Clip(trust.Text(s.bucket), 80))
	}
	if s.prefix != "" && (path.Clean(s.prefix) != s.prefix || len(s.prefix) > 400 || trust.Text(s.prefix) != s.prefix || strings.HasPrefix(s.prefix, "..")) {
		return nil, problem.New(s3Hint, "not a prefix: %q", trust.Clip(trust.Text(s.prefix), 80))
	}
	if s.pathStyle != "" && s.pathStyle != "true" && s.pathStyle != "false" {
		return nil, problem.New("path-style=true puts the bucket into the path of the URL, false into its host", "path-style is true or false")
	}
	for name, file := range map[string]string{"ca": s.ca, "credentials": s.credentials} {
		if file != "" && !filepath.IsAbs(file) {
			return nil, problem.New("name the file by its absolute path", "%s= is not the path of a file: %s", name, trust.Clip(trust.Text(file), 80))
		}
	}
	if p := q["proxy"]; p != "" {
		if s.proxy, err = hostURL(p); err != nil {
			return nil, problem.New("proxy=http://HOST:PORT, without a user or password", "proxy= is not the URL of a proxy")
		}
	}
	end := q["endpoint"]
	switch {
	case end == "":
		s.amazon, s.endpoint = true, &url.URL{Scheme: "https", Host: "s3.amazonaws.com"}
	default:
		if !strings.Contains(end, "://") {
			end = "https://" + end
		}
		if s.endpoint, err = hostURL(end); err != nil {
			return nil, problem.New("endpoint=https://HOST:PORT, without a path; the bucket comes first: s3://BUCKET", "endpoint= is not the URL of a store")
		}
	}
	return s, nil
}

// hostURL is a URL of nothing but a host.
func hostURL(text string) (*url.URL, error) {
	u, err := trust.URL(text)
	if err != nil {
		return nil, err
	}
	if u.Path = strings.Trim(u.Path, "/"); u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("it has more than a host")
	}
	return u, nil
}

// Location is its s3:// URL. No credentials are in it: they come from the
// environment or from files.
func (s *S3) Location() string {
	at := "s3://" + s.bucket
	if s.prefix != "" {
		at += "/" + s.prefix
	}
	q := map[string]string{"region": s.region, "path-style": s.pathStyle, "ca": s.ca, "credentials": s.credentials, "profile": s.profile}
	if !s.amazon {
		q["endpoint"] = s.endpoint.String()
	}
	if s.proxy != nil {
		q["proxy"] = s.proxy.String()
	}
	return at + encode(q, s3Parameters)
}

func (s *S3) key(name string) string {
	if s.prefix == "" {
		return name
	}
	return s.prefix + "/" + name
}

// Parts of an upload: as large as to be few, as small as to be held in memory
// and sent again. S3 takes 10,000.
const (
	partSize = 16 << 20
	maxParts = 10_000
)

func (s *S3) partFor(size int64) int64 {
	part := s.part
	for part*maxParts < size {
		part *= 2
	}
	return part
}

// Put stores an object: in one request, or in parts when it is longer than one
// of them.
func (s *S3) Put(ctx context.Context, name string, content io.Reader, size int64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return s.call(ctx, func(c *minio.Core) error {
		switch _, err := s.stat(ctx, c, s.key(name)); {
		case err == nil:
			return &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		content = &bounded{ctx, content}
		part := s.partFor(size)
		buf := make([]byte, min(part, size))
		if size <= part {
			return s.putOne(ctx, c, name, content, buf)
		}
		return s.putParts(ctx, c, name, content, size, buf)
	})
}

// once are the options by which a store refuses to replace an object.
func once() minio.PutObjectOptions {
	o := minio.PutObjectOptions{DisableContentSha256: true} // it is in the header: no signatures in between
	o.SetMatchETagExcept("*")
	return o
}

// sums are what a part is sent with.
type sums struct{ md5, sha256 []byte }

func sumsOf(data []byte) sums {
	m, h := md5.Sum(data), sha256.Sum256(data)
	return sums{m[:], h[:]}
}

func (s sums) contentMD5() string { return base64.StdEncoding.EncodeToString(s.md5) }

// fillPart reads what is announced; last says that nothing may follow.
func fillPart(content io.Reader, buf []byte, last bool) error {
	n, err := io.ReadFull(content, buf)
	if err == nil && last {
		var more [1]byte
		if n, err = io.ReadFull(content, more[:]); n > 0 {
			return errors.New("more arrived than was announced")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("less arrived than was announced: %d bytes are missing", len(buf)-n)
	}
	return err
}

func (s *S3) putOne(ctx context.Context, c *minio.Core, name string, content io.Reader, data []byte) error {
	if err := fillPart(content, data, true); err != nil {
		return err
	}
	sum := sumsOf(data)
	put := func(o minio.PutObjectOptions) error {
		_, err := c.PutObject(ctx, s.bucket, s.key(name), bytes.NewReader(data), int64(len(data)), sum.contentMD5(), hex.EncodeToString(sum.sha256), o)
		return err
	}
	err := put(once())
	if unknownHeader(err) {
		err = put(minio.PutObjectOptions{DisableContentSha256: true})
	}
	return s.settled(ctx, c, name, hex.EncodeToString(sum.md5), int64(len(data)), err)
}

// settled is what became of an object. A store that says that it is there already
// may have taken it by a request whose answer was lost.
func (s *S3) settled(ctx context.Context, c *minio.Core, name, etag string, size int64, err error) error {
	e := minio.ToErrorResponse(err)
	if e.Code != minio.PreconditionFailed && e.StatusCode != 412 && e.Code != "ConditionalRequestConflict" {
		return err
	}
	if o, serr := s.stat(ctx, c, s.key(name)); serr == nil && o.ETag == etag && o.Size == size {
		return nil
	}
	return &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
}

// unknownHeader says that a store doesn't know If-None-Match, and refuses rather
// than ignores it.
func unknownHeader(err error) bool {
	e := minio.ToErrorResponse(err)
	return e.Code == minio.NotImplemented || e.StatusCode == 501
}

func (s *S3) putParts(ctx context.Context, c *minio.Core, name string, content io.Reader, size int64, buf []byte) (err error) {
	key := s.key(name)
	id, err := c.NewMultipartUpload(ctx, s.bucket, key, minio.PutObjectOptions{})
	if err != nil {
		return err
	}
	if id == "" {
		return errors.New("it returned no ID for a multipart upload")
	}
	defer func() {
		if err != nil {
			tidy(ctx, func(ctx context.Context) { _ = c.AbortMultipartUpload(ctx, s.bucket, key, id) })
		}
	}()
	var parts []minio.CompletePart
	all := md5.New()
	for done := int64(0); done < size; done += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-done)]
		if err := fillPart(content, buf, done+int64(len(buf)) == size); err != nil {
			return err
		}
		sum := sumsOf(buf)
		_, _ = all.Write(sum.md5)
		p, err := c.PutObjectPart(ctx, s.bucket, key, id, len(parts)+1, bytes.NewReader(buf), int64(len(buf)), minio.PutObjectPartOptions{
			Md5Base64: sum.contentMD5(), Sha256Hex: hex.EncodeToString(sum.sha256), DisableContentSha256: true,
		})
		if err != nil {
			return err
		}
		parts = append(parts, minio.CompletePart{PartNumber: len(parts) + 1, ETag: p.ETag})
	}
	_, err = c.CompleteMultipartUpload(ctx, s.bucket, key, id, parts, once())
	if unknownHeader(err) {
		_, err = c.CompleteMultipartUpload(ctx, s.bucket, key, id, parts, minio.PutObjectOptions{})
	}
	etag := fmt.Sprintf("%x-%d", all.Sum(nil), len(parts))
	err = s.settled(ctx, c, name, etag, size, err)
	if minio.ToErrorResponse(err).Code == minio.NoSuchUpload { // completed by a request whose answer was lost
		if o, serr := s.stat(ctx, c, key); serr == nil && o.ETag == etag && o.Size == size {
			return nil
		}
	}
	return err
}

// Sweep throws away the parts of uploads that weren't finished.
func (s *S3) Sweep(ctx context.Context, prefix string, dead func(Unfinished) bool) error {
	full := s.key("")
	return s.call(ctx, func(c *minio.Core) error {
		ctx := context.WithValue(ctx, budget{}, newBudget(maxPages))
		var now time.Time
		listing := context.WithValue(ctx, dateKey{}, &now)
		var key, id string
		for {
			page, err := c.ListMultipartUploads(listing, s.bucket, full+prefix, key, id, "", 1000)
			if err != nil {
				return err
			}
			for _, u := range page.Uploads {
				name, below := strings.CutPrefix(u.Key, full)
				if !below || !strings.HasPrefix(name, prefix) || CheckName(name) != nil || u.Initiated.IsZero() || !dead(Unfinished{name, now.Sub(u.Initiated)}) {
					continue
				}
				if err := c.AbortMultipartUpload(ctx, s.bucket, u.Key, u.UploadID); err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
					return err
				}
			}
			if !page.IsTruncated {
				return nil
			}
			key, id = page.NextKeyMarker, page.NextUploadIDMarker
		}
	})
}

// Get opens an object. What is cut on its way is gone on with.
func (s *S3) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	r, _, err := s.get(ctx, s.key(name))
	return r, err
}

func (s *S3) get(ctx context.Context, key string) (r io.ReadCloser, o *Object, err error) {
	var etag string
	from := func(ctx context.Context, at int64) (body io.ReadCloser, size int64, err error) {
		err = s.call(ctx, func(c *minio.Core) error {
			var want minio.GetObjectOptions
			if at > 0 {
				if err := errors.Join(want.SetRange(at, 0), want.SetMatchETag(etag)); err != nil {
					return err
				}
			}
			got, info, header, err := c.GetObject(context.WithValue(ctx, wholeObject{}, true), s.bucket, key, want)
			if err != nil {
				return err
			}
			if at > 0 && !strings.HasPrefix(header.Get("Content-Range"), fmt.Sprintf("bytes %d-", at)) {
				_ = got.Close()
				return errors.New("it was asked for the rest of an object, and sent something else")
			}
			if at == 0 {
				etag, o = info.ETag, &Object{Name: path.Base(key), Size: info.Size, Time: info.LastModified}
			}
			body, size = got, info.Size
			return nil
		})
		return body, size, err
	}
	r, err = newResumed(ctx, from, func() bool { return etag != "" }, s.pace)
	if err != nil {
		return nil, nil, err
	}
	return r, o, nil
}

// Stat describes an object.
func (s *S3) Stat(ctx context.Context, name string) (o *Object, err error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	err = s.call(ctx, func(c *minio.Core) error {
		info, err := s.stat(ctx, c, s.key(name))
		o = &Object{name, info.Size, info.LastModified}
		return err
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

func (s *S3) stat(ctx context.Context, c *minio.Core, key string) (minio.ObjectInfo, error) {
	info, err := c.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	switch minio.ToErrorResponse(err).StatusCode {
	case 301, 307, 400, 403: // an answer to HEAD has no room for the reason
		var first minio.GetObjectOptions
		if err := first.SetRange(0, 0); err != nil {
			return info, err
		}
		body, _, _, gerr := c.GetObject(ctx, s.bucket, key, first)
		if gerr == nil {
			_ = body.Close()
		} else {
			err = gerr
		}
	}
	switch e := minio.ToErrorResponse(err); {
	case err == nil && info.Size < 0:
		return info, errors.New("it returns no length for an object")
	case e.Code == minio.NoSuchKey, e.StatusCode == 404 && e.Code != minio.NoSuchBucket:
		return info, &fs.PathError{Op: "stat", Path: key, Err: fs.ErrNotExist}
	}
	return info, err
}

// List has the objects below the prefix whose names are those of backups.
func (s *S3) List(ctx context.Context, prefix string) ([]Object, error) {
	return collect(ctx, s, prefix)
}

// A listing has pages of a thousand, and no more than so many of them.
var maxPages int64 = 20_000

func (s *S3) each(ctx context.Context, prefix string, f func(Object) error) error {
	full := s.key("")
	return s.call(ctx, func(c *minio.Core) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ctx = context.WithValue(ctx, budget{}, newBudget(maxPages))
		for o := range c.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: full + prefix, Recursive: true}) {
			if o.Err != nil {
				return o.Err
			}
			name, below := strings.CutPrefix(o.Key, full)
			if !below || !strings.HasPrefix(name, prefix) || CheckName(name) != nil || o.Size < 0 {
				continue
			}
			if err := f(Object{name, o.Size, o.LastModified}); err != nil {
				return err
			}
		}
		return ctx.Err() // the listing just ends then
	})
}

// Delete deletes an object: the version that is there, in a bucket that keeps
// versions, or where that isn't allowed the name alone, and what becomes of the
// version is the bucket's to say. The error is a *Locked when a lock keeps it.
func (s *S3) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return s.call(ctx, func(c *minio.Core) error {
		info, err := s.stat(ctx, c, s.key(name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		until, _ := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		held := strings.EqualFold(info.Metadata.Get("X-Amz-Object-Lock-Legal-Hold"), "ON")
		locked := &Locked{Name: name, Until: until}
		if held || time.Now().Before(until) {
			if held {
				locked.Until = time.Time{}
			}
			return locked
		}
		remove := func(version string) error {
			err := c.RemoveObject(ctx, s.bucket, s.key(name), minio.RemoveObjectOptions{VersionID: version})
			if lockedBy(err) {
				if _, until, rerr := c.GetObjectRetention(ctx, s.bucket, s.key(name), version); rerr == nil && until != nil {
					locked.Until = *until
				}
				return locked
			}
			return err
		}
		if v := info.VersionID; v != "" && v != "null" {
			if err := remove(v); minio.ToErrorResponse(err).Code != minio.AccessDenied {
				return err
			}
		}
		return remove("")
	})
}

// lockedBy says whether a store keeps an object under a lock: each says it in
// its own words.
func lockedBy(err error) bool {
	e := minio.ToErrorResponse(err)
	if err == nil || e.Code == "" {
		return false
	}
	says := strings.ToLower(e.Code + " " + e.Message)
	return slices.ContainsFunc([]string{"objectlocked", "object lock", "worm", "retention", "legal hold", "legalhold"}, func(word string) bool {
		return strings.Contains(says, word)
	})
}

// call does something with the client, and explains what goes wrong.
func (s *S3) call(ctx context.Context, f func(c *minio.Core) error) error {
	c, err := s.core()
	if err == nil {
		err = f(c)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.explain(err)
}

// core makes the client. Its files are read by the first call, and again after
// one that couldn't.
func (s *S3) core() (*minio.Core, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	transport, err := newTransport(s.ca, s.proxy)
	if err != nil {
		return nil, err
	}
	s.creds = credentials.New(&s3Credentials{file: s.credentials, profile: s.profile, transport: transport, roleLimit: roleLimit})
	o := &minio.Options{
		Creds: s.creds, Secure: s.endpoint.Scheme == "https", Region: s.regionOr(), MaxRetries: s.pace.tries,
		Transport: &paced{transport, s.pace.idle},
	}
	switch s.pathStyle {
	case "true":
		o.BucketLookup = minio.BucketLookupPath
	case "false":
		o.BucketLookup = minio.BucketLookupDNS
	}
	c, err := minio.NewCore(s.endpoint.Host, o)
	if err != nil {
		return nil, err
	}
	s.client, s.transport = c, transport
	return c, nil
}
