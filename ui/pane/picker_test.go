package pane

import (
	"errors"
	"strings"
	"testing"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

// The newest snapshot is damaged as often as not after an incident: the newest
// that can be restored is highlighted instead, and says why.
func TestTheNewestGoodSnapshotIsHighlighted(t *testing.T) {
	list := func() Picker {
		p := NewPicker("")
		p.Found([]snapshot.Candidate{
			{Path: "/backup/newest.db", ModTime: noon},
			{Path: "/backup/newer.db", ModTime: noon.Add(-time.Hour)},
			{Path: "/backup/good.db", ModTime: noon.Add(-2 * time.Hour)},
			{Path: "/run/safety.db", ModTime: noon, Safety: true},
		})
		return p
	}
	damaged := &problem.Problem{Cause: "its SHA-256 is wrong"}
	want := func(p *Picker, path, why string) {
		t.Helper()
		lines, _, _ := p.View(look, noon, 80, 24)
		if got := strings.Join(lines, "\n"); p.current().path != path || !strings.Contains(got, why) {
			t.Errorf("%s is highlighted, want %s and %q:\n%s", p.current().path, path, why, got)
		}
	}
	p := list()
	want(&p, "/backup/newest.db", "")
	p.Looked("/backup/newest.db", nil, damaged)
	want(&p, "/backup/newer.db", "selected because the newer newest.db can't be restored: its SHA-256 is")
	p.Looked("/backup/newer.db", nil, errors.New("truncated"))
	want(&p, "/backup/good.db", "selected because the 2 newer ones can't be restored")
	p.Key("up")
	p.Looked("/backup/good.db", &snapshot.Info{Size: 1, ModTime: noon}, nil)
	want(&p, "/backup/newer.db", "truncated")

	p = list()
	p.Key("down")
	p.Looked("/backup/newer.db", nil, damaged)
	want(&p, "/backup/newer.db", "its SHA-256 is wrong") // where the user is

	p = list()
	if _, note := p.Choose(); note == "" {
		t.Error("it was chosen unread")
	}
	if !p.Looked("/backup/newest.db", nil, damaged) {
		t.Error("enter is forgotten")
	}
	if _, note := p.Choose(); !strings.Contains(note, "newest.db can't be restored") {
		t.Errorf("the note says %q", note)
	}

	p = list()
	for _, path := range []string{"/backup/newest.db", "/backup/newer.db", "/backup/good.db"} {
		p.Looked(path, nil, damaged)
	}
	want(&p, "/backup/good.db", "its SHA-256 is wrong") // no safety copy in its place

	p = NewPicker("/mnt/named.db")
	p.Found([]snapshot.Candidate{{Path: "/backup/good.db", ModTime: noon}})
	p.Looked("/mnt/named.db", nil, damaged)
	want(&p, "/mnt/named.db", "its SHA-256 is wrong") // the user named it
}

// A later backup that is stored elsewhere is highlighted when it is found, before
// the user has highlighted anything, and else it is named.
func TestALaterBackupElsewhereIsHighlightedOrNamed(t *testing.T) {
	list := func() Picker {
		p := NewPicker("")
		p.Found([]snapshot.Candidate{{Path: "/backup/local.db", ModTime: noon.Add(-3 * time.Hour)}, {Path: "/backup/older.db", ModTime: noon.Add(-4 * time.Hour)}})
		return p
	}
	stored := func(at time.Time) []snapshot.Candidate {
		return []snapshot.Candidate{
			{Path: "s3://b/none", From: "s3://b", ModTime: noon, Err: problem.New("", "its record was changed")},
			{Path: "s3://b/one.db.zst.age", From: "s3://b", Format: snapshot.Age, Revision: 7, Keys: 3, ModTime: at},
		}
	}
	shows := func(p *Picker, path string, named bool) {
		t.Helper()
		lines, _, _ := p.View(look, noon, 100, 24)
		if got := strings.Join(lines, "\n"); p.current().path != path || strings.Contains(got, "a later backup is stored, taken 60 min ago: s3://b/one.db.zst.age") != named {
			t.Errorf("%s is highlighted, want %s, and a later one named %v:\n%s", p.current().path, path, named, got)
		}
	}
	p := list()
	p.Also(stored(noon.Add(-time.Hour)))
	shows(&p, "s3://b/one.db.zst.age", false)

	p = list()
	p.Key("down")
	p.Also(stored(noon.Add(-time.Hour)))
	shows(&p, "/backup/older.db", true)
	p.Key("up")
	shows(&p, "/backup/local.db", true)

	p = list()
	_, _ = p.Choose() // enter: it is chosen as soon as it was read
	p.Also(stored(noon.Add(-time.Hour)))
	shows(&p, "/backup/local.db", true)

	p = list()
	p.Also(stored(noon.Add(-5 * time.Hour))) // an older one
	shows(&p, "/backup/local.db", false)
}
