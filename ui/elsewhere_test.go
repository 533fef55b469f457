package ui

import (
	"context"
	"strings"
	"testing"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

const (
	stored  = "s3://backups/prod/20261120T110000Z/cp1.db.zst.age?endpoint=https://minio:9000"
	storeAt = "s3://backups/prod?endpoint=https://minio:9000"
)

// placesFor makes two places tell what they have: one is away.
func placesFor(d *driver) {
	d.m.options.Elsewhere = func(_ context.Context, _ *steps.Facts, tell func([]snapshot.Candidate), _ func(string)) {
		tell([]snapshot.Candidate{{Path: "sftp://nas/srv/backups", From: "sftp://nas/srv/backups", Err: problem.New("check the network and the other host", "no connection within 30s")}})
		tell([]snapshot.Candidate{{
			Path: stored, From: storeAt, Format: snapshot.Age, Size: 104_857, ModTime: noon.Add(-5 * time.Minute), Revision: 1000000700, Keys: 331,
		}})
	}
	d.f.bad = map[string]error{stored: problem.Coded(snapshot.CodeEncrypted, "name the file with the identity: --identity FILE", "encrypted with age")}
	d.m.options.Unlock = func(_ context.Context, path, passphrase string) error {
		if path != "/media/usb/key.txt" || passphrase != "hunter2" {
			return problem.New("try again", "the passphrase doesn't open the SSH key in %s", path)
		}
		delete(d.f.bad, stored)
		return nil
	}
}

// What lies elsewhere is in the list with its age and revision, without being
// fetched; what opens it is asked for when it is chosen, and nothing that was
// typed of a passphrase is shown.
func TestABackupThatLiesElsewhereIsChosen(t *testing.T) {
	d := drive(t, newFake(), Options{})
	placesFor(d)
	d.to(chooseScreen)
	d.see("1000000700", "stored", "sftp:/", "no connection within 30s")
	d.dontSee("listing the backups")
	for _, path := range d.f.inspected {
		if path == stored {
			t.Error("it was fetched unasked")
		}
	}
	d.key("home", "down")
	d.see("In", storeAt, "Enter fetches it")
	d.key("enter")
	d.see("What opens this snapshot?", "encrypted with age")
	d.key("/media/usb/key.txt", "tab", "hunter3", "enter")
	d.see("the passphrase doesn't open the SSH key", "*******")
	d.dontSee("hunter3")
	d.key("backspace", "2", "enter")
	if d.m.screen != membersScreen && d.m.screen != checkScreen || d.m.info == nil || d.m.info.Name != stored {
		t.Errorf("on screen %v with %+v", d.m.screen, d.m.info)
	}
}

// A place may take minutes to list what it has: the screen shows how far it is.
func TestHowFarTheListingIsIsShown(t *testing.T) {
	d := drive(t, newFake(), Options{})
	placesFor(d)
	d.to(chooseScreen)
	places, shown := d.m.options.Elsewhere, ""
	d.m.options.Elsewhere = func(ctx context.Context, f *steps.Facts, tell func([]snapshot.Candidate), say func(string)) {
		say("64 of 3000 records read")
		d.mail()
		shown = d.view()
		places(ctx, f, tell, say)
	}
	d.key("r")
	if !strings.Contains(shown, "64 of 3000 records read …") {
		t.Errorf("shown meanwhile:\n%s", shown)
	}
	d.dontSee("records read")
}

func TestAnIdentityNeedNotBeGiven(t *testing.T) {
	d := drive(t, newFake(), Options{})
	placesFor(d)
	d.to(chooseScreen)
	d.key("home", "down", "enter")
	d.see("What opens this snapshot?")
	d.key("enter")
	d.see("Neither a file nor a passphrase was given")
	d.key("esc")
	d.see("Which snapshot", "encrypted with age")
	d.key("enter") // once more, it is asked again
	d.see("What opens this snapshot?")
}
