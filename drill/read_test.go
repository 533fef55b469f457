package drill

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fakeAPI has objects of some kinds at revision 7 and is asked as kube-apiserver
// is, with a client certificate of the drill's.
type fakeAPI struct {
	t       *testing.T
	objects map[string]int    // by path
	broken  map[string]string // what a list fails with
	fat     map[string]bool   // pages of more than ten are beyond the bound
	late    int               // so often /apis has no custom resources yet
}

func (f *fakeAPI) serve(t *testing.T) *reader {
	t.Helper()
	dir := t.TempDir()
	if err := certificates(dir, "somebody"); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	pair, err := tls.LoadX509KeyPair(at(serverFile), at(serverKey))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(at(caFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	s := httptest.NewUnstartedServer(f)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	r, err := newReader(s.URL, at(caFile), at(clientFile), at(clientKey), 7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	if who := q.TLS.PeerCertificates[0].Subject; len(who.Organization) != 1 || who.Organization[0] != "system:masters" {
		f.t.Errorf("%s asks", who)
	}
	resources := func(names ...string) metav1.APIResourceList {
		var l metav1.APIResourceList
		for _, n := range names {
			l.APIResources = append(l.APIResources, metav1.APIResource{Name: n, Verbs: metav1.Verbs{"list"}})
		}
		return l
	}
	switch q.URL.Path {
	case "/version":
		answer(map[string]string{"gitVersion": "v1.34.4"})
	case "/apis":
		groups := metav1.APIGroupList{Groups: []metav1.APIGroup{{Name: "apps", PreferredVersion: metav1.GroupVersionForDiscovery{Version: "v1"}}}}
		if f.late--; f.late < 0 {
			groups.Groups = append(groups.Groups, metav1.APIGroup{
				Name: "example.com", PreferredVersion: metav1.GroupVersionForDiscovery{Version: "v2"},
				Versions: []metav1.GroupVersionForDiscovery{{Version: "v2"}, {Version: "v1"}},
			})
		}
		answer(groups)
	case "/api/v1":
		answer(resources("secrets", "configmaps", "pods"))
	case "/apis/apps/v1":
		answer(resources("deployments"))
	case "/apis/example.com/v1", "/apis/example.com/v2":
		answer(resources("widgets"))
	default:
		f.list(w, q, answer)
	}
}

func (f *fakeAPI) list(w http.ResponseWriter, q *http.Request, answer func(any)) {
	n, known := f.objects[q.URL.Path]
	if !known {
		f.t.Errorf("asked for %s", q.URL)
	}
	if why := f.broken[q.URL.Path]; why != "" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Message: why, Reason: "InternalError", Code: 500})
		return
	}
	if accept := q.Header.Get("Accept"); !strings.Contains(accept, "as=PartialObjectMetadataList") {
		f.t.Errorf("whole objects are asked for: %s", accept)
	}
	from, _ := strconv.Atoi(q.URL.Query().Get("continue"))
	if rv, match := q.URL.Query().Get("resourceVersion"), q.URL.Query().Get("resourceVersionMatch"); from == 0 && (rv != "7" || match != "Exact") || from > 0 && rv != "" {
		f.t.Errorf("%s: at revision %q, %q", q.URL.Path, rv, match)
	}
	limit, _ := strconv.Atoi(q.URL.Query().Get("limit"))
	if f.fat[q.URL.Path] && limit > 10 {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[{"metadata":{"name":"`))
		_, _ = w.Write([]byte(strings.Repeat("x", fatPage)))
		return
	}
	page := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/v1"}}
	for i := from; i < min(n, from+limit); i++ {
		page.Items = append(page.Items, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("o", i)}})
	}
	if from+limit < n {
		page.Continue = fmt.Sprint(from + limit)
	}
	answer(page)
}

func quiet(string) {}

const fatPage = 1 << 20 // bytes

// Every object is counted, whatever the size of the pages, in the version that it
// is stored in; what the API server doesn't serve is said.
func TestEveryObjectIsListedAtTheSnapshotsRevision(t *testing.T) {
	f := &fakeAPI{
		t: t, late: 2, fat: map[string]bool{"/api/v1/configmaps": true},
		objects: map[string]int{"/api/v1/secrets": 1203, "/api/v1/configmaps": 25, "/apis/apps/v1/deployments": 3, "/apis/example.com/v1/widgets": 2},
	}
	r := f.serve(t)
	r.wait, r.largest = time.Minute, fatPage
	got, err := r.all(t.Context(), []wanted{
		{Kind: "Secret", Resource: "secrets", Version: "v1", Stored: "secrets", Objects: 1203, Encrypted: []string{"aescbc:key1"}},
		{Kind: "ConfigMap", Resource: "configmaps", Version: "v1", Stored: "configmaps", Objects: 26},
		{Kind: "Deployment", Group: "apps", Version: "v1beta1", Resource: "deployments", Stored: "deployments", Objects: 3},
		{Kind: "Widget", Group: "example.com", Version: "v1", Resource: "widgets", Stored: "widgets.example.com", Objects: 2, Custom: true},
		{Kind: "PodSecurityPolicy", Group: "policy", Version: "v1beta1", Resource: "podsecuritypolicies", Stored: "podsecuritypolicy", Objects: 4},
	}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	want := []Kind{
		{Kind: "Secret", Resource: "secrets", Objects: 1203, Listed: 1203, Encrypted: []string{"aescbc:key1"}},
		{Kind: "ConfigMap", Resource: "configmaps", Objects: 26, Listed: 25},
		{Kind: "Deployment", Resource: "deployments", Objects: 3, Listed: 3},
		{Kind: "Widget", Resource: "widgets.example.com", Objects: 2, Listed: 2},
		{Kind: "PodSecurityPolicy", Resource: "podsecuritypolicy", Objects: 4, NotListed: "this kube-apiserver doesn't serve it"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if v, err := r.version(t.Context()); v != "v1.34.4" || err != nil {
		t.Error(v, err)
	}

	d := &drill{report: &Report{}}
	if err := d.compare(got); err == nil || !strings.Contains(err.Error(), "configmaps: 26 in the snapshot, 25 through the API") {
		t.Errorf("a ConfigMap that the API doesn't list: %v", err)
	}
	if d.report.Objects != 1233 || len(d.report.LeftOut) != 1 || !strings.Contains(d.report.LeftOut[0], "podsecuritypolicy (4)") {
		t.Errorf("%+v", d.report)
	}
}

func TestAnObjectThatCannotBeReadIsAFaultAndAWebhookIsNot(t *testing.T) {
	f := &fakeAPI{
		t: t, objects: map[string]int{"/api/v1/secrets": 3, "/apis/example.com/v2/widgets": 2},
		broken: map[string]string{
			"/apis/example.com/v2/widgets": "conversion webhook for example.com/v1, Kind=Widget failed: Post \"https://x.y.svc:443/\": dial tcp: lookup x.y.svc",
			"/api/v1/secrets":              "Internal error occurred: unable to transform key \"/registry/secrets/a/b\": no matching prefix found",
		},
	}
	r := f.serve(t)
	got, err := r.all(t.Context(), []wanted{
		{Kind: "Widget", Group: "example.com", Version: "v0", Resource: "widgets", Stored: "widgets.example.com", Objects: 2, Custom: true},
	}, quiet)
	if err != nil || len(got) != 1 || got[0].NotListed != "its conversion webhook isn't called in a drill" {
		t.Errorf("%+v %v", got, err)
	}
	_, err = r.all(t.Context(), []wanted{{Kind: "Secret", Resource: "secrets", Version: "v1", Stored: "secrets", Objects: 3}}, quiet)
	if err == nil || !strings.Contains(err.Error(), "can't read secrets") || !strings.Contains(err.Error(), "no matching prefix found") {
		t.Error(err)
	}
}

// An API server that can't read its Secrets is never ready; the drill asks for
// them soon, and not all the time.
func TestAnAPIServerThatIsNotReadyIsAskedForWhatItMayNotRead(t *testing.T) {
	f := &fakeAPI{t: t, objects: map[string]int{"/api/v1/secrets": 3}}
	r := f.serve(t)
	d := doubts{kinds: []wanted{{Kind: "Secret", Resource: "secrets", Stored: "secrets"}, {Kind: "Gone", Resource: "gone", Group: "x", Stored: "gone.x"}}, next: doubtAfter}
	now := time.Now()
	for _, after := range []time.Duration{0, time.Second, 3 * time.Second} {
		if err := d.confirmed(t.Context(), r, now.Add(after)); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
	}
	f.broken = map[string]string{"/api/v1/secrets": "etcdserver: request timed out"}
	if err := d.confirmed(t.Context(), r, now.Add(20*time.Second)); err != nil {
		t.Errorf("what passes was taken for a missing key: %v", err)
	}
	f.broken["/api/v1/secrets"] = "Internal error occurred: unable to transform key \"/registry/secrets/a/b\": identity transformer tried to read encrypted data"
	if err := d.confirmed(t.Context(), r, now.Add(21*time.Second)); err != nil {
		t.Errorf("it was asked again too soon: %v", err)
	}
	if err := d.confirmed(t.Context(), r, now.Add(10*time.Minute)); err == nil || !strings.Contains(err.Error(), "it can't read secrets: Internal error") {
		t.Error(err)
	}
	f.broken["/api/v1/secrets"] = "failed to read one or more secrets from the storage: StorageError: corrupt object, Code: 7, Key: /registry/secrets/default/sealed, " +
		"ResourceVersion: 0, AdditionalErrorMsg: data from the storage is not transformable revision=0: no matching key was found for the provided AES transformer" // 1.37.2
	if err := d.confirmed(t.Context(), r, now.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "it can't read secrets: failed to read") {
		t.Error(err)
	}
}

// A kind whose definition is there and which is never served isn't waited for
// without end.
func TestAKindThatNeverComesIsNotWaitedForForEver(t *testing.T) {
	f := &fakeAPI{t: t, late: 1 << 30}
	r := f.serve(t)
	r.wait = time.Second / 2
	got, err := r.all(t.Context(), []wanted{{Kind: "Widget", Group: "example.com", Resource: "widgets", Stored: "widgets.example.com", Objects: 2, Custom: true}}, quiet)
	if err != nil || len(got) != 1 || got[0].NotListed == "" {
		t.Errorf("%+v %v", got, err)
	}
}

// Long lists may take all the time that a kind has to come: what the API server said
// before them says nothing about it now.
func TestAKindThatCameWhileOthersWereListedIsFound(t *testing.T) {
	f := &fakeAPI{t: t, late: 1}
	r := f.serve(t)
	w := wanted{Kind: "Widget", Group: "example.com", Version: "v1", Resource: "widgets", Stored: "widgets.example.com", Custom: true}
	if at, err := r.lookUp(t.Context(), w); err != nil || !at.Empty() {
		t.Fatal(at, err)
	}
	at, err := r.find(t.Context(), w, time.Now())
	if err != nil || at.Resource != "widgets" || at.Version != "v1" {
		t.Error(at, err)
	}
}

// The certificates are good for the loopback alone.
func TestTheCertificatesAreForNobodyElse(t *testing.T) {
	dir := t.TempDir()
	if err := certificates(dir, "kube-apiserver-etcd-client"); err != nil {
		t.Fatal(err)
	}
	if got := subjectOf(filepath.Join(dir, etcdFile)); got != "kube-apiserver-etcd-client" {
		t.Error(got)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, serverFile), filepath.Join(dir, serverKey))
	if err != nil {
		t.Fatal(err)
	}
	c := pair.Leaf
	if len(c.IPAddresses) != 1 || !c.IPAddresses[0].IsLoopback() || len(c.DNSNames) != 1 || c.DNSNames[0] != "localhost" || c.NotAfter.After(time.Now().Add(25*time.Hour)) {
		t.Errorf("%v %v until %s", c.IPAddresses, c.DNSNames, c.NotAfter)
	}
	keys, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil || len(keys) != 4 {
		t.Fatal(keys, err)
	}
	for _, k := range keys {
		if st, err := os.Stat(k); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", k, st.Mode(), err)
		}
	}
}
