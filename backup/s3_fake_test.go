package backup

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	minio "github.com/minio/minio-go/v7"
)

// fakeS3 is what a bucket does, in memory. A fault, when there is one, sees each
// request first, and says whether it has answered it.
type fakeS3 struct {
	*httptest.Server
	t     *testing.T
	fault func(w http.ResponseWriter, r *http.Request) (answered bool)

	mu      sync.Mutex
	objects map[string]fakeObject
	uploads map[string]map[int][]byte // parts, by upload ID
	keys    map[string]string         // of uploads
	begun   map[string]time.Time
	clock   time.Duration // by which it is ahead
	noMatch bool          // it doesn't know If-None-Match
	locked  map[string]time.Time
	version bool // it has versions
	// noDelete says that no version may be deleted; hidden are those behind a delete
	// marker.
	noDelete bool
	hidden   map[string][]fakeObject
	asked    []string
}

type fakeObject struct {
	data []byte
	etag string
	when time.Time
	id   string // of the version
}

const fakeSecret = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"

// newFakeS3 is a bucket, and the store of it.
func newFakeS3(t *testing.T, query string) (*fakeS3, *S3) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", fakeSecret)
	was := minio.DefaultRetryUnit
	minio.DefaultRetryUnit = time.Millisecond
	f := &fakeS3{t: t, objects: map[string]fakeObject{}, uploads: map[string]map[int][]byte{}, keys: map[string]string{}, begun: map[string]time.Time{}, locked: map[string]time.Time{}, hidden: map[string][]fakeObject{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() { f.Close(); minio.DefaultRetryUnit = was })
	st, err := Open("s3://bucket/some/prefix?endpoint=" + f.URL + query)
	if err != nil {
		t.Fatal(err)
	}
	s := st.(*S3)
	s.pace = pace{idle: 10 * time.Second, tries: 3, pause: time.Millisecond}
	s.part = 32 << 10
	t.Cleanup(func() { // no idle connection outlives the test
		if s.transport != nil {
			s.transport.CloseIdleConnections()
		}
	})
	return f, s
}

func (f *fakeS3) fail(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>`, code)
	_ = xml.EscapeText(w, []byte(message))
	_, _ = io.WriteString(w, `</Message></Error>`)
}

func quoted(etag string) string { return `"` + etag + `"` }

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.fault != nil && f.fault(w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("Date", time.Now().Add(f.clock).UTC().Format(http.TimeFormat))
	if s := tooNew(r, body); s != "" {
		f.t.Errorf("%s %s has %s", r.Method, r.URL.Path, s)
		f.fail(w, 501, "NotImplemented", "A header you provided implies functionality that is not implemented: "+s)
		return
	}
	if want := r.Header.Get("Content-Md5"); r.Method == http.MethodPut {
		if sum := md5.Sum(body); want != base64.StdEncoding.EncodeToString(sum[:]) {
			f.fail(w, 400, "BadDigest", "Content-MD5 is missing or another")
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Method+" "+r.URL.RequestURI())
	key, in := strings.CutPrefix(r.URL.Path, "/bucket/")
	q := r.URL.Query()
	had, there := f.objects[key]
	none := r.Header.Get("If-None-Match") == "*" && !f.noMatch && there
	switch {
	case !in || !strings.Contains(r.Header.Get("Authorization"), "AKIAIOSFODNN7EXAMPLE"):
		f.fail(w, 403, "AccessDenied", "Access Denied")
	case r.Method == http.MethodGet && q.Has("list-type"):
		f.list(w, q)
	case r.Method == http.MethodGet && q.Has("uploads"):
		f.listUploads(w, q)
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := fmt.Sprint("upload", len(f.begun))
		f.uploads[id], f.keys[id], f.begun[id] = map[int][]byte{}, key, time.Now().Add(f.clock)
		_, _ = fmt.Fprintf(w, `<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>`, id)
	case q.Has("uploadId") && f.uploads[q.Get("uploadId")] == nil:
		f.fail(w, 404, "NoSuchUpload", "there is none")
	case r.Method == http.MethodPut && q.Has("uploadId"):
		n, _ := strconv.Atoi(q.Get("partNumber"))
		f.uploads[q.Get("uploadId")][n] = body
		w.Header().Set("ETag", quoted(fmt.Sprintf("%x", md5.Sum(body))))
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		f.drop(q.Get("uploadId"))
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost && q.Has("uploadId") && none, r.Method == http.MethodPut && none:
		f.fail(w, 412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	case r.Method == http.MethodPost && q.Has("uploadId"):
		var all, sums []byte
		parts := f.uploads[q.Get("uploadId")]
		for i := range len(parts) {
			all = append(all, parts[i+1]...)
			sum := md5.Sum(parts[i+1])
			sums = append(sums, sum[:]...)
		}
		f.objects[key] = f.newVersion(key, all, fmt.Sprintf("%x-%d", md5.Sum(sums), len(parts)))
		f.drop(q.Get("uploadId"))
		_, _ = fmt.Fprintf(w, `<CompleteMultipartUploadResult><Bucket>bucket</Bucket><Key>%s</Key><ETag>x</ETag></CompleteMultipartUploadResult>`, key)
	case r.Method == http.MethodPut:
		f.objects[key] = f.newVersion(key, body, fmt.Sprintf("%x", md5.Sum(body)))
		w.Header().Set("ETag", quoted(f.objects[key].etag))
	case r.Method == http.MethodDelete:
		if time.Now().Before(f.locked[key]) && (!f.version || q.Has("versionId")) {
			f.fail(w, 403, "AccessDenied", "Access Denied because object protected by object lock.")
			return
		}
		switch {
		case q.Has("versionId") && f.noDelete:
			f.fail(w, 403, "AccessDenied", "User is not authorized to perform: s3:DeleteObjectVersion")
			return
		case q.Has("versionId") && q.Get("versionId") != had.id:
			f.fail(w, 404, "NoSuchVersion", "The specified version does not exist.")
			return
		case f.version && !q.Has("versionId"):
			f.hidden[key] = append(f.hidden[key], had)
		}
		delete(f.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case !there:
		f.fail(w, 404, "NoSuchKey", "The specified key does not exist.")
	default:
		h := w.Header()
		h.Set("ETag", quoted(had.etag))
		h.Set("Last-Modified", had.when.UTC().Format(http.TimeFormat))
		if f.version {
			h.Set("X-Amz-Version-Id", had.id)
		}
		if m := r.Header.Get("If-Match"); m != "" && strings.Trim(m, `"`) != had.etag {
			f.fail(w, 412, "PreconditionFailed", "it is another")
			return
		}
		data := had.data
		if at, ranged := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ranged {
			from, _ := strconv.Atoi(strings.TrimSuffix(at, "-"))
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
			data = data[from:]
			h.Set("Content-Length", fmt.Sprint(len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		h.Set("Content-Length", fmt.Sprint(len(data)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(data)
		}
	}
}

// newVersion is an object with a version, which there are none of in most buckets.
func (f *fakeS3) newVersion(key string, data []byte, etag string) fakeObject {
	return fakeObject{data, etag, time.Now(), fmt.Sprint("v", len(f.hidden[key]))}
}

// tooNew is what of a request older stores, and those that only speak S3, refuse or
// take for a part of the object: checksums other than Content-MD5, and signatures or
// trailers between the bytes.
func tooNew(r *http.Request, body []byte) string {
	for name, values := range r.Header {
		name = strings.ToLower(name)
		switch says := strings.ToLower(strings.Join(values, " ")); {
		case strings.HasPrefix(name, "x-amz-checksum-"), name == "x-amz-sdk-checksum-algorithm", name == "x-amz-trailer", name == "x-amz-decoded-content-length":
			return name
		case strings.Contains(says, "aws-chunked"), name == "x-amz-content-sha256" && !sha256Hex.MatchString(says) && (len(body) > 0 || says != "unsigned-payload"):
			return name + ": " + says
		}
	}
	switch {
	case len(r.TransferEncoding) > 0 || len(r.Trailer) > 0:
		return "a body of unknown length, or a trailer"
	case r.Method == http.MethodPost && strings.Contains(strings.ToLower(string(body)), "checksum"):
		return "a checksum of parts"
	}
	return ""
}

var sha256Hex = regexp.MustCompile("^[0-9a-f]{64}$")

func (f *fakeS3) drop(id string) {
	delete(f.uploads, id)
	delete(f.keys, id)
}

// listUploads has pages of two.
func (f *fakeS3) listUploads(w io.Writer, q url.Values) {
	_, _ = io.WriteString(w, `<ListMultipartUploadsResult>`)
	n := 0
	for _, id := range slices.Sorted(maps.Keys(f.keys)) {
		if !strings.HasPrefix(f.keys[id], q.Get("prefix")) || id <= q.Get("upload-id-marker") {
			continue
		}
		_, _ = fmt.Fprintf(w, `<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>`, f.keys[id], id, f.begun[id].UTC().Format(time.RFC3339))
		if n++; n == 2 {
			_, _ = fmt.Fprintf(w, `<IsTruncated>true</IsTruncated><NextKeyMarker>%s</NextKeyMarker><NextUploadIdMarker>%s</NextUploadIdMarker>`, f.keys[id], id)
			break
		}
	}
	_, _ = io.WriteString(w, `</ListMultipartUploadsResult>`)
}

// list has pages of three.
func (f *fakeS3) list(w io.Writer, q url.Values) {
	_, _ = io.WriteString(w, `<ListBucketResult><EncodingType>url</EncodingType>`)
	n := 0
	for _, key := range slices.Sorted(maps.Keys(f.objects)) {
		if !strings.HasPrefix(key, q.Get("prefix")) || key <= q.Get("continuation-token") {
			continue
		}
		o := f.objects[key]
		_, _ = fmt.Fprintf(w, `<Contents><Key>%s</Key><Size>%d</Size><LastModified>%s</LastModified></Contents>`, url.QueryEscape(key), len(o.data), o.when.UTC().Format(time.RFC3339))
		if n++; n == 3 {
			_, _ = fmt.Fprintf(w, `<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>`, key)
			break
		}
	}
	_, _ = io.WriteString(w, `</ListBucketResult>`)
}

// hangUp ends a connection in the middle of an answer.
func hangUp(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.Close()
	}
}
