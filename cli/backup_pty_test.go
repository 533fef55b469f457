//go:build linux && !nopractice

package cli

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// setUp is backup init on a terminal, below a directory with a place for backups.
func setUp(t *testing.T) (p *terminal, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(dir+"/nas", 0o700); err != nil {
		t.Fatal(err)
	}
	return callOnTerminal(t, dir, "backup", "init", "--config", dir+"/backup.yaml", "--state-dir", dir+"/state"), dir
}

// answer answers the next question that ends so.
func (p *terminal) answer(question, with string) {
	p.t.Helper()
	p.see(question)
	p.press(with + "\r")
}

// sshKey writes a new SSH key to a file, and returns its public half.
func sshKey(t *testing.T, file string) (public string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	of, err := ssh.NewPublicKey(pub)
	if err := errors.Join(err, os.WriteFile(file, pem.EncodeToMemory(block), 0o600)); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(of)))
}

// A slip costs a line and not the answers before it. Nothing is set up until the
// test file was opened with the SSH key that belongs to the recipient.
func TestBackupsAreSetUpOnATerminal(t *testing.T) {
	p, dir := setUp(t)
	public := sshKey(t, dir+"/mine")
	sshKey(t, dir+"/other")
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}

	p.answer("Where to: ", "file:///nowhere/"+strings.Repeat("at-all/", 20))
	p.see("there is no such directory")
	p.answer("Where to: ", "file://"+dir+"/nas")
	p.see("written, read back, deleted")
	p.answer("One more location", "file://"+dir+"/nas/.")
	p.see("is named already")
	p.answer("One more location", "")
	p.answer("Who can open them", "age1nonsense")
	p.see("is not an age recipient")
	p.answer("Who can open them", public)
	p.answer("One more, an escrow key", "")
	p.answer("How often", "7h")
	p.see("doesn't divide a day")
	p.answer("How often", "often")
	p.see("is not a duration")
	p.answer("How often", "6h")
	p.answer("Rounds to keep", "last=x")
	p.see("is not a number of rounds")
	p.answer("Rounds to keep", "last=3")
	p.answer("(yes or no)", "perhaps")
	p.see("answer yes or no")
	p.answer("(yes or no)", "no")
	for said, answer := range map[string]string{
		"no such file":          dir + "/none",
		"file wasn't opened":    dir + "/other",
		"not an age identity":   "AGE-SECRET-KEY-1NONSENSE",
		"backups would be lost": other.String(),
		"→ check the path":      "mine",
	} {
		p.answer("The identity, ", answer)
		p.see(said)
	}
	if _, err := os.Lstat(dir + "/backup.yaml"); err == nil {
		t.Error("it is set up, and nothing was opened")
	}
	p.answer("The identity, ", dir+"/mine")
	p.see("1 of 1 recipient is proven")
	p.see("etcd-rewind backup enable")
	if err := p.ends(); err != nil {
		t.Error(err)
	}
	config, err := os.ReadFile(dir + "/backup.yaml")
	if err != nil || !strings.Contains(string(config), public) || !strings.Contains(string(config), "every: 6h") {
		t.Errorf("%v\n%s", err, config)
	}
	if strings.Contains(p.screen(), other.String()) {
		t.Error("an identity that was typed is on the screen")
	}
}

// Who has no identity gets one, has to store it, and gives it back.
func TestANewIdentityHasToBeStoredBeforeItIsUsed(t *testing.T) {
	p, dir := setUp(t)
	p.answer("Where to: ", "file://"+dir+"/nas")
	p.answer("One more location", "")
	p.answer("Who can open them", "")
	p.see("shown once")
	p.see("\n  AGE-SECRET-KEY-")
	rest := p.screen()[p.seen:]
	id := "AGE-SECRET-KEY-" + strings.Fields(rest)[0]
	p.answer("How often", "")
	p.answer("Rounds to keep", "")
	p.answer("(yes or no)", "y")
	p.answer("The identity, from where you have stored it", "")
	p.answer("The identity, from where you have stored it", id)
	p.see("1 of 1 recipient is proven")
	if err := p.ends(); err != nil {
		t.Error(err)
	}
	for _, file := range []string{"/backup.yaml", "/backup.key"} {
		if text, err := os.ReadFile(dir + file); err != nil || strings.Contains(string(text), id) {
			t.Errorf("%s: %v\n%s", file, err, text)
		}
	}
	if strings.Count(p.screen(), id) != 1 {
		t.Error("the identity is shown more than once")
	}
}

// Ctrl-C ends it at any question, and the terminal shows again what is typed.
func TestCtrlCEndsTheQuestions(t *testing.T) {
	for _, to := range []string{"Where to: ", "The identity, "} {
		p, dir := setUp(t)
		p.see("Where to: ")
		if to != "Where to: " {
			p.press("file://" + dir + "/nas\r")
			p.answer("One more location", "")
			p.answer("Who can open them", sshKey(t, dir+"/mine"))
			p.answer("One more, an escrow key", "")
			p.answer("How often", "")
			p.answer("Rounds to keep", "")
			p.answer("(yes or no)", "")
			p.see(to)
		}
		p.press("\x03")
		if p.ends() == nil {
			t.Errorf("%s: it went well", to)
		}
		if now, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS); err != nil || now.Lflag&unix.ECHO == 0 {
			t.Errorf("%s: the terminal doesn't show any more what is typed: %v", to, err)
		}
		if _, err := os.Lstat(dir + "/backup.yaml"); err == nil {
			t.Errorf("%s: it is set up", to)
		}
	}
}
