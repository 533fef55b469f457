package backup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/problem"
)

// configured writes a configuration and a key beside it.
func configured(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "backup.yaml")
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), NewKey().Write(KeyPath(file))); err != nil {
		t.Fatal(err)
	}
	return file
}

const (
	anAge = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	anSSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN alice@example"
)

func TestAConfigurationIsRead(t *testing.T) {
	c, err := Load(configured(t, `
locations:
  - file:///srv/backup
  - file:///mnt/nas?mounted=true
recipients:
  - `+anAge+`
  - `+anSSH+`
schedule: {every: 6h, at: "02:30"}
keep: {last: 5, hourly: 24, daily: 7, weekly: 4, monthly: 6, within: 14d}
include: [pki, manifests, encryption-config]
includeRecipients: [`+anAge+`]
metricsFile: /var/lib/node_exporter/etcd-rewind.prom
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Key) != keySize {
		t.Error("without its key")
	}
	if c.Lines["file:///mnt/nas?mounted=true"] != 4 {
		t.Errorf("the locations are in lines %v", c.Lines)
	}
	c.Key, c.Path, c.Lines = nil, "", nil
	want := &Config{
		Locations: []string{"file:///srv/backup", "file:///mnt/nas?mounted=true"}, Recipients: []string{anAge, anSSH},
		Schedule: Schedule{Every: Duration(6 * time.Hour), At: Clock(150 * time.Minute)},
		Keep:     Policy{Last: 5, Hourly: 24, Daily: 7, Weekly: 4, Monthly: 6, Within: Duration(14 * 24 * time.Hour)},
		Include:  []string{"pki", "manifests", "encryption-config"}, SecretsRecipients: []string{anAge}, MetricsFile: "/var/lib/node_exporter/etcd-rewind.prom",
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	for _, f := range []func() (int, error){
		func() (int, error) { r, err := c.AgeRecipients(); return len(r), err },
		func() (int, error) { s, err := c.Stores(); return len(s), err },
	} {
		if n, err := f(); n != 2 || err != nil {
			t.Error(n, err)
		}
	}
}

// Each mistake is reported with its line and what would be right.
func TestAConfigurationWithAMistakeIsRefused(t *testing.T) {
	good := "locations: [file:///srv/backup]\nrecipients: [" + anAge + "]\n"
	for name, c := range map[string]struct{ text, says, hint string }{
		"empty":                        {"", "it is empty", ""},
		"no YAML":                      {"locations: [", "line 1", ""},
		"a list":                       {"- a\n", "line 1: expected keys here", ""},
		"two documents":                {good + "---\n" + good, "more than one document", ""},
		"an unknown key":               {good + "recipient: x\n", `line 3: unknown key "recipient"`, "did you mean recipients?"},
		"another way to write it":      {good + "metrics_file: x\n", `line 3: unknown key "metrics_file"`, "did you mean metricsFile?"},
		"an unknown key below":         {good + "keep:\n  last: 3\n  yearly: 1\n", `line 5: unknown key "yearly"`, "known here: daily, hourly"},
		"a key twice":                  {good + "locations: []\n", `line 3: mapping key "locations" already defined at line 1`, ""},
		"a text for a number":          {good + "keep:\n  last: many\n", "line 4: expected a whole number, not \"many\"", ""},
		"a fraction for a number":      {good + "keep:\n  last: 1.5\n", "line 4: expected a whole number, not 1.5", ""},
		"a whole fraction":             {good + "keep:\n  last: 2.0\n", "line 4: expected a whole number, not 2.0", ""},
		"no number at all":             {good + "keep:\n  last: .nan\n", "line 4: expected a whole number, not .nan", ""},
		"yes for a number":             {good + "keep:\n  last: true\n", "line 4: expected a whole number, not true", ""},
		"a date for a number":          {good + "keep:\n  last: 2026-01-01\n", "line 4: expected a whole number, not ", ""},
		"a list for a number":          {good + "keep:\n  last: [5]\n", "line 4: expected a whole number, not a list", ""},
		"keys for a number":            {good + "keep:\n  last: {count: 5}\n", "line 4: expected a whole number, not keys", ""},
		"a number for a list":          {"locations: 5\n", "line 1: expected a list, not 5", ""},
		"a number too large":           {good + "keep:\n  last: 99999999999999999999\n", "line 4: expected a whole number, not ", ""},
		"keys for a text":              {good + "metricsFile: {a: b}\n", "line 3: expected a text, not keys", ""},
		"a list in a list":             {"locations:\n- [file:///srv]\n", "line 2: expected a text, not a list", ""},
		"a number for a text":          {good + "metricsFile: 5\n", "line 3: \"5\" is not the absolute path", ""},
		"a text for a list":            {"locations: file:///srv\nrecipients: []\n", "line 1: expected a list, not \"file:///srv\"", ""},
		"a number for keep":            {good + "keep: 5\n", "line 3: expected keys here", ""},
		"no location":                  {"recipients: [" + anAge + "]\n", "no location", "a location is a URL"},
		"no URL":                       {"locations:\n- file:///srv\n- /srv/backup\n", "line 3: a location without its kind", "file:///srv/backup"},
		"a location twice":             {"locations:\n- file:///srv\n- file:///srv/\nrecipients: [" + anAge + "]\n", "line 3: this location is named twice", ""},
		"nobody to open it":            {"locations: [file:///srv/backup]\n", "no recipients", "age-keygen"},
		"an identity":                  {"locations: [file:///srv/backup]\nrecipients:\n- AGE-SECRET-KEY-1QQQ\n", "line 3: this is an identity, not a recipient", "age-keygen -y"},
		"a recipient with a slip":      {"locations: [file:///srv/backup]\nrecipients:\n- " + anAge[:40] + "x" + anAge[41:] + "\n", "line 3: ", "age-keygen"},
		"an SSH key that can't":        {"locations: [file:///srv/backup]\nrecipients:\n- ecdsa-sha2-nistp256 AAAA\n", "line 3: ", "ssh-ed25519"},
		"recipients and a passphrase":  {good + "passphraseFile: /etc/pass\n", "line 3: a file is encrypted for recipients or with a passphrase", ""},
		"a part that isn't known":      {good + "include:\n- pki\n- everything\n", `line 5: include has no "everything"`, "pki, manifests, encryption-config"},
		"recipients of nothing":        {good + "includeRecipients: [" + anAge + "]\n", "line 3: includeRecipients without include", ""},
		"a schedule past the day":      {good + "schedule: {every: 7h}\n", "line 3: every 7h doesn't divide a day", "6h"},
		"a schedule without unit":      {good + "schedule:\n  every: 6\n", "line 4: \"6\" is not a duration", ""},
		"a time that isn't":            {good + "schedule:\n  every: 1d\n  at: noon\n", "line 5: \"noon\" is not a time", ""},
		"a time later than the first":  {good + "schedule: {every: 1h, at: \"02:30\"}\n", "line 3: the first round of a day is at 02:30", ""},
		"a number below nothing":       {good + "keep: {last: -1}\n", "line 3: keep has the number -1", ""},
		"metrics for another program":  {good + "metricsFile: metrics.prom\n", "line 3: ", "node_exporter"},
		"a text that becomes too long": {"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := configured(t, c.text)
			_, err := Load(file)
			p := problem.Of(err)
			if p == nil || !strings.Contains(p.Cause, c.says) || !strings.Contains(p.Hint, c.hint) || p.Hint == "" || !strings.Contains(p.Cause, file) {
				t.Errorf("%v\nwant %s; %s", problem.Line(err), c.says, c.hint)
			}
			t.Log(problem.Line(err))
		})
	}
}

func TestAConfigurationIsRootsAlone(t *testing.T) {
	file := configured(t, "locations: [file:///srv/backup]\nrecipients: ["+anAge+"]\n")
	if _, err := Load(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(problem.Line(err), "chmod 600") {
		t.Errorf("others may read it: %v", err)
	}
	if _, err := Load(file + "x"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(problem.Line(err), "backup init") {
		t.Errorf("not there: %v", problem.Line(err))
	}
	if err := errors.Join(os.Chmod(file, 0o600), os.Remove(KeyPath(file))); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(problem.Line(err), "another node") {
		t.Errorf("without its key: %v", problem.Line(err))
	}
}

func TestDurationsAreWrittenAsTheyAreRead(t *testing.T) {
	for _, s := range []string{"5m", "30m", "1h", "90m", "6h", "36h", "1d", "14d"} {
		d, err := ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseDuration(d.String())
		if err != nil || again != d {
			t.Errorf("%s: %s", s, d)
		}
	}
	for _, s := range []string{"", "6", "d", "1.5d", "-1h", "-1d", "1w", "999999999d"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%s is %s", s, d)
		}
	}
}
