package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Where a node's configuration lies, and what the timer's runs leave.
const (
	ConfigPath = "/etc/etcd-rewind/backup.yaml"
	StateDir   = "/var/lib/etcd-rewind"
)

// Config is how the backups of a cluster are made: the same file on each of its
// nodes, /etc/etcd-rewind/backup.yaml.
type Config struct {
	// Locations are URLs, as Open takes them; each gets every backup.
	Locations []string `yaml:"locations"`
	// Recipients can open the backups, each of them alone: age1…, ssh-ed25519 …,
	// ssh-rsa ….
	Recipients []string `yaml:"recipients,omitempty"`
	// PassphraseFile is instead of recipients.
	PassphraseFile string `yaml:"passphraseFile,omitempty"`
	// Every is the time from one round to the next, and At when the first of a
	// day begins, both in UTC; zero when there is no schedule.
	Schedule Schedule `yaml:"schedule,omitempty"`
	Keep     Policy   `yaml:"keep,omitempty"`
	// Include are the parts of what a snapshot alone can't bring back: pki,
	// manifests, encryption-config. They go into a file of their own, for
	// SecretsRecipients, or for Recipients where there are none.
	Include           []string `yaml:"include,omitempty"`
	SecretsRecipients []string `yaml:"includeRecipients,omitempty"`
	// Proven are the recipients, of either file, that a test file was opened for.
	Proven []string `yaml:"proven,omitempty"`
	// MetricsFile is written after each backup, for node_exporter's textfile
	// collector; "" writes none.
	MetricsFile string `yaml:"metricsFile,omitempty"`

	Path string `yaml:"-"` // that it was read from
	// Lines are those of the locations in it, by Store.Location.
	Lines map[string]int `yaml:"-"`
	Key   Key            `yaml:"-"` // of the file beside, that records are authenticated with
}

// Schedule is when rounds begin: each Every, counted from At in the day, UTC.
type Schedule struct {
	Every Duration `yaml:"every,omitempty"`
	At    Clock    `yaml:"at,omitempty"`
}

// Policy is how much is kept, counted in rounds; nothing is removed when all of it
// is zero.
type Policy struct {
	Last    int `yaml:"last,omitempty"`
	Hourly  int `yaml:"hourly,omitempty"`
	Daily   int `yaml:"daily,omitempty"`
	Weekly  int `yaml:"weekly,omitempty"`
	Monthly int `yaml:"monthly,omitempty"`
	// Within keeps all that are younger.
	Within Duration `yaml:"within,omitempty"`
}

// The parts of Include.
const (
	IncludePKI        = "pki"
	IncludeManifests  = "manifests"
	IncludeEncryption = "encryption-config"
)

var includes = []string{IncludePKI, IncludeManifests, IncludeEncryption}

// Duration is written 30m, 6h or 14d.
type Duration time.Duration

func (d Duration) String() string {
	t := time.Duration(d)
	if t > 0 && t%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", t/(24*time.Hour))
	}
	s := t.String()
	if t%time.Minute == 0 {
		s = strings.TrimSuffix(s, "0s")
	}
	if t%time.Hour == 0 {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ParseDuration reads a duration as a configuration has it.
func ParseDuration(s string) (Duration, error) {
	hours := s
	if days, ok := strings.CutSuffix(s, "d"); ok && !strings.ContainsAny(days, ".hms") {
		d, err := time.ParseDuration(days + "h")
		if err != nil || d < 0 || d > 100*365*time.Hour {
			return 0, fmt.Errorf("%.40q is not a duration like 30m, 6h or 14d", s)
		}
		return Duration(24 * d), nil
	}
	d, err := time.ParseDuration(hours)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%.40q is not a duration like 30m, 6h or 14d", s)
	}
	return Duration(d), nil
}

func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

func (d *Duration) UnmarshalYAML(n *yaml.Node) (err error) {
	*d, err = ParseDuration(n.Value)
	return at(n, err)
}

// Clock is a time of the day, UTC, from its midnight; written "02:30".
type Clock time.Duration

func (c Clock) String() string {
	return fmt.Sprintf("%02d:%02d", time.Duration(c)/time.Hour, time.Duration(c)%time.Hour/time.Minute)
}

// ParseClock reads a time of the day.
func ParseClock(s string) (Clock, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a time of day like 02:30", s)
	}
	return Clock(time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute), nil
}

func (c Clock) MarshalYAML() (any, error) { return c.String(), nil }

func (c *Clock) UnmarshalYAML(n *yaml.Node) (err error) {
	*c, err = ParseClock(n.Value)
	return at(n, err)
}

// at says in which line an error is.
func at(n *yaml.Node, err error) error {
	if err != nil {
		return &lineError{n.Line, err.Error(), ""}
	}
	return nil
}

type lineError struct {
	line       int
	what, hint string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.what) }

// KeyPath is where the key of a configuration lies: beside it.
func KeyPath(config string) string {
	return strings.TrimSuffix(config, filepath.Ext(config)) + ".key"
}

const maxConfig = 64 << 10

// Load reads a configuration, and the key beside it; the error is a
// *problem.Problem. A configuration that isn't there is fs.ErrNotExist below it.
// No location is asked: see Stores.
func Load(path string) (*Config, error) {
	data, err := readPrivate(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New("create one with etcd-rewind backup init, or name another with --config", "no backups are set up on this node: %w", err)
	}
	if err != nil {
		return nil, problem.From(err)
	}
	c, err := parse(data)
	if err != nil {
		p := problem.From(err)
		if l, ok := errors.AsType[*lineError](err); ok && l.hint != "" {
			p.Hint = l.hint
		}
		if p.Hint == "" {
			p.Hint = "docs/backup.md has all keys, with examples"
		}
		return nil, p.About(path)
	}
	c.Path = path
	if c.Key, err = ReadKey(KeyPath(path)); errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New("copy it from another node of the cluster, together with the configuration", "the key of the backups is missing: %w", err)
	} else if err != nil {
		return nil, problem.From(err)
	}
	return c, nil
}

// parse reads a configuration's text, strictly.
func parse(data []byte) (*Config, error) {
	if err := trust.YAML(data); err != nil {
		return nil, err
	}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, clearer(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one document in it")
	}
	if len(doc.Content) == 0 {
		return nil, errors.New("it is empty")
	}
	if err := known(doc.Content[0], configKeys); err != nil {
		return nil, err
	}
	var c Config
	if err := doc.Decode(&c); err != nil {
		return nil, clearer(err)
	}
	return &c, c.check(doc.Content[0])
}

// clearer is an error of the YAML library in a user's words. What kind a value has
// to be of was said before, by known.
func clearer(err error) error {
	what := strings.TrimPrefix(err.Error(), "yaml: ")
	if t, ok := errors.AsType[*yaml.TypeError](err); ok {
		what = t.Errors[0]
	}
	if line, _, ok := strings.Cut(what, ": cannot unmarshal "); ok {
		what = line + ": a value that doesn't fit here"
	}
	return errors.New(trust.Text(what))
}

// keys are those of a mapping, each with the kind of its value, or with those below
// it.
type keys map[string]any

// kind is what a value has to be.
type kind string

const (
	aText   kind = "a text"
	aNumber kind = "a whole number"
	aList   kind = "a list"
)

var configKeys = keys{
	"locations": aList, "recipients": aList, "passphraseFile": aText, "include": aList, "includeRecipients": aList, "proven": aList, "metricsFile": aText,
	"schedule": keys{"every": aText, "at": aText},
	"keep":     keys{"last": aNumber, "hourly": aNumber, "daily": aNumber, "weekly": aNumber, "monthly": aNumber, "within": aText},
}

// known is an error for a key that nobody reads, which would be a wish that is
// silently ignored, and for a value of another kind than its key has: the library
// cuts a fraction off.
func known(n *yaml.Node, all keys) error {
	if n = aliased(n); n.Kind != yaml.MappingNode {
		return &lineError{n.Line, "expected keys here, as in locations:", ""}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		want, ok := all[k.Value]
		if !ok {
			return &lineError{k.Line, fmt.Sprintf("unknown key %.60q", trust.Text(k.Value)), nearest(k.Value, all)}
		}
		if v.Tag == "!!null" {
			continue
		}
		var err error
		switch want := want.(type) {
		case keys:
			err = known(v, want)
		case kind:
			err = want.of(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func aliased(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// of says that a value isn't of the kind.
func (k kind) of(n *yaml.Node) error {
	v := aliased(n)
	switch {
	case k == aList && v.Kind == yaml.SequenceNode:
		for _, e := range v.Content {
			if err := aText.of(e); err != nil {
				return err
			}
		}
		return nil
	case k == aText && v.Kind == yaml.ScalarNode, k == aNumber && v.Kind == yaml.ScalarNode && v.ShortTag() == "!!int":
		return nil
	}
	is := trust.Clip(trust.Text(v.Value), 60)
	switch {
	case v.Kind == yaml.SequenceNode:
		is = "a list"
	case v.Kind == yaml.MappingNode:
		is = "keys"
	case v.ShortTag() == "!!str":
		is = fmt.Sprintf("%q", is)
	}
	return &lineError{n.Line, fmt.Sprintf("expected %s, not %s", k, is), ""}
}

// nearest suggests a key for one that isn't known.
func nearest(key string, all keys) string {
	plain := func(s string) string {
		return strings.TrimRight(strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)), "s")
	}
	var names []string
	for k := range all {
		if plain(k) == plain(key) {
			return "did you mean " + k + "?"
		}
		names = append(names, k)
	}
	slices.Sort(names)
	return "known here: " + strings.Join(names, ", ")
}

// check holds the values against each other; n is the document.
func (c *Config) check(n *yaml.Node) error {
	fail := func(key, hint, format string, args ...any) error {
		return &lineError{line(n, key), fmt.Sprintf(format, args...), hint}
	}
	if len(c.Locations) == 0 {
		return fail("locations", "a location is a URL: file:///srv/backup", "no location to send backups to")
	}
	seen := map[string]bool{}
	for i, l := range c.Locations {
		s, err := Open(l)
		if err != nil {
			cause, hint := problem.Explain(err)
			return &lineError{element(n, "locations", i), cause, hint}
		}
		if seen[s.Location()] {
			return &lineError{element(n, "locations", i), "this location is named twice", "name each once"}
		}
		seen[s.Location()] = true
		if c.Lines == nil {
			c.Lines = map[string]int{}
		}
		c.Lines[s.Location()] = element(n, "locations", i)
	}
	if len(c.Recipients) == 0 && c.PassphraseFile == "" {
		return fail("recipients", "name the recipients who can open the backups: age1…, as age-keygen prints it, or ssh-ed25519 …", "no recipients: backups contain every Secret of the cluster, and are never stored unencrypted")
	}
	if len(c.Recipients) > 0 && c.PassphraseFile != "" {
		return fail("passphraseFile", "take one of the two", "a file is encrypted for recipients or with a passphrase, never both")
	}
	if p := c.PassphraseFile; p != "" && !filepath.IsAbs(p) {
		return fail("passphraseFile", "name the file by its absolute path", "%q is not an absolute path", p)
	}
	for key, list := range map[string][]string{"recipients": c.Recipients, "includeRecipients": c.SecretsRecipients} {
		for i, r := range list {
			if _, err := ParseRecipient(r); err != nil {
				cause, hint := problem.Explain(err)
				return &lineError{element(n, key, i), cause, hint}
			}
		}
		if all, err := recipients(list); err == nil && len(all) > 0 {
			if _, err := age.Encrypt(io.Discard, all...); err != nil {
				return fail(key, "those of one kind only", "age doesn't encrypt for these recipients together: %s", trust.Text(err.Error()))
			}
		}
	}
	for i, part := range c.Include {
		if !slices.Contains(includes, part) {
			return &lineError{element(n, "include", i), fmt.Sprintf("include has no %.40q", trust.Text(part)), "it takes " + strings.Join(includes, ", ")}
		}
	}
	if len(c.SecretsRecipients) > 0 && len(c.Include) == 0 {
		return fail("includeRecipients", "add include: [pki, manifests, encryption-config], or remove it", "includeRecipients without include: there is no file for them")
	}
	if p := c.MetricsFile; p != "" && !isMetricsFile(p) {
		return fail("metricsFile", "node_exporter requires a name like /var/lib/node_exporter/textfile_collector/etcd-rewind.prom", "%q is not the absolute path of a .prom file", p)
	}
	for _, k := range []int{c.Keep.Last, c.Keep.Hourly, c.Keep.Daily, c.Keep.Weekly, c.Keep.Monthly} {
		if k < 0 || k > 10000 {
			return fail("keep", "use numbers of rounds, 0 to 10000", "keep has the number %d", k)
		}
	}
	if err := c.Schedule.Check(); err != nil {
		return fail("schedule", "a day is divided evenly: 10m, 15m, 30m, 1h, 2h, 3h, 4h, 6h, 8h, 12h or 1d", "%s", err)
	}
	return nil
}

// Check says what keeps a schedule from dividing a day; one without Every is none.
func (s Schedule) Check() error {
	switch every := time.Duration(s.Every); {
	case every == 0 && s.At != 0:
		return errors.New("at needs every")
	case every == 0:
	case every < 5*time.Minute || every > 24*time.Hour || (24*time.Hour)%every != 0 || every%time.Minute != 0:
		return fmt.Errorf("every %s doesn't divide a day", s.Every)
	case time.Duration(s.At) >= every:
		return fmt.Errorf("the first round of a day is at %s, later than the %s between two", s.At, s.Every)
	}
	return nil
}

// line is where a key is, 1 when it isn't.
func line(n *yaml.Node, key string) int {
	if v := value(n, key); v != nil {
		return v.Line
	}
	return 1
}

func value(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// placed is what is wrong with a location, and where in the configuration that is.
func (c *Config) placed(p *problem.Problem, location string) *problem.Problem {
	line := c.Lines[location]
	if line == 0 || c.Path == "" {
		return p
	}
	q := *p
	where := fmt.Sprintf("line %d of %s", line, c.Path)
	if q.Hint == "" {
		q.Hint = "the location is " + where
	} else {
		q.Hint += " (" + where + ")"
	}
	return &q
}

func element(n *yaml.Node, key string, i int) int {
	if v := value(n, key); v != nil && i < len(v.Content) {
		return v.Content[i].Line
	}
	return line(n, key)
}

// ParseRecipient reads one recipient: of age (X25519, hybrid) or an SSH public key. The error is
// a *problem.Problem.
func ParseRecipient(s string) (age.Recipient, error) {
	const hint = "a recipient is age1…, as age-keygen -y prints it, or an SSH public key: ssh-ed25519 …, ssh-rsa …"
	s = strings.TrimSpace(s)
	switch {
	case strings.HasPrefix(s, "AGE-SECRET-KEY-"):
		return nil, problem.New("name its recipient: age-keygen -y FILE; and make a new identity, this one was on a disk", "this is an identity, not a recipient: it opens the backups, and must not be on the node")
	case strings.HasPrefix(s, "age1pq1"):
		r, err := age.ParseHybridRecipient(s)
		if err != nil {
			return nil, problem.New(hint, "%.30q… is not an age recipient", s)
		}
		return r, nil
	case strings.HasPrefix(s, "age1"):
		r, err := age.ParseX25519Recipient(s)
		if err != nil {
			return nil, problem.New(hint, "%.30q… is not an age recipient", s)
		}
		return r, nil
	case strings.HasPrefix(s, "ssh-"):
		r, err := agessh.ParseRecipient(s)
		if err != nil {
			return nil, problem.New(hint, "%.30q… is not an SSH public key that age supports: %s", s, trust.Text(err.Error()))
		}
		return r, nil
	}
	return nil, problem.New(hint, "%.30q is not a recipient", trust.Text(s))
}

// workFactor is age's own, a second; tests have less.
var workFactor = 18

// AgeRecipients are who can open the snapshots. A passphrase file is read for
// it. The error is a *problem.Problem.
func (c *Config) AgeRecipients() ([]age.Recipient, error) {
	if c.PassphraseFile == "" {
		return recipients(c.Recipients)
	}
	pass, err := c.passphrase()
	if err != nil {
		return nil, err
	}
	r, err := age.NewScryptRecipient(pass)
	if err != nil {
		return nil, problem.From(err)
	}
	r.SetWorkFactor(workFactor)
	return []age.Recipient{r}, nil
}

// AgeSecretsRecipients are who can open the second file. The error is a
// *problem.Problem.
func (c *Config) AgeSecretsRecipients() ([]age.Recipient, error) {
	if len(c.SecretsRecipients) == 0 {
		return c.AgeRecipients()
	}
	return recipients(c.SecretsRecipients)
}

func recipients(list []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, s := range list {
		r, err := ParseRecipient(s)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// PassphraseIdentity opens what the passphrase of the configuration has
// encrypted. The error is a *problem.Problem.
func (c *Config) PassphraseIdentity() ([]age.Identity, error) {
	pass, err := c.passphrase()
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(pass)
	if err != nil {
		return nil, problem.From(err)
	}
	return []age.Identity{id}, nil
}

func (c *Config) passphrase() (string, error) {
	data, err := readPrivate(c.PassphraseFile, 4096)
	if err != nil {
		return "", problem.From(err)
	}
	pass := strings.TrimRight(string(data), "\r\n")
	if len(pass) < 12 || strings.ContainsAny(pass, "\r\n") {
		return "", problem.New("one line of 12 characters at least; age -p proposes ten words", "%s contains no passphrase", c.PassphraseFile)
	}
	return pass, nil
}

// Stores are the locations, in their order. Nothing is asked. The error is a
// *problem.Problem.
func (c *Config) Stores() ([]Store, error) {
	var all []Store
	for _, l := range c.Locations {
		s, err := Open(l)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Private says why a file, which holds what others mustn't know, isn't root's or
// this user's alone.
func Private(path string) error {
	_, err := readPrivate(path, maxConfig)
	return err
}

// readPrivate reads a file of root's, or of this user's, that nobody else may
// read or change. The error is a *problem.Problem or fs.ErrNotExist.
func readPrivate(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := trust.File(path); err != nil {
		return nil, err
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, notAFile(path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, problem.New(trust.Shell("chmod 600 %s", path), "others may read %s: its mode is %03o", path, st.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is longer than %d kB", path, limit>>10)
	}
	return data, err
}
