package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"etcd-rewind/backup"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// What the answers are where nothing is said.
const (
	usualEvery = "1h"
	usualKeep  = "last=5,hourly=24,daily=7,weekly=4,monthly=6"
)

func (a *app) backupInit(config *string) *cobra.Command {
	var o struct {
		locations, recipients, include, secrets []string
		passphrase, every, at, keep, metrics    string
		replace                                 bool
	}
	c := &cobra.Command{
		Use:   "init",
		Short: "Set up backups: locations, recipients, schedule, retention",
		Long: `Set up backups: locations, recipients, schedule, retention.

On a terminal it asks for what no flag sets. Each location is tested: a file is
written, read back and deleted. Nothing is set up until a test file was opened
with your identity: it is read once, from the terminal or the file of
--identity, and stored nowhere. Keep it somewhere other than this node: without
it the backups are lost, and with it anybody can read every Secret of the
cluster.

The configuration and a key are written, mode 0600. Copy both to the other
control planes: the key separates this cluster's backups from forged ones. Keep
a copy of the key where the identity is: after the loss of all nodes it shows
which backups are yours.`,
		Example: `  etcd-rewind backup init
  etcd-rewind backup init --location file:///mnt/nas --recipient age1... \
    --every 6h --keep last=5,daily=7,weekly=4 --identity /mnt/usb/identity.txt`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringArrayVar(&o.locations, "location", nil, "`URL` of a location for backups; may be repeated")
	f.StringArrayVar(&o.recipients, "recipient", nil, "who can open the backups, `age1...` or an SSH public key; may be repeated")
	f.StringVar(&o.passphrase, "passphrase-file", "", "`file` with a passphrase, instead of recipients")
	f.StringVar(&o.every, "every", "", "`time` between two rounds of the timer ("+usualEvery+")")
	f.StringVar(&o.at, "at", "", "`time` of a day's first round, in UTC (00:00)")
	f.StringVar(&o.keep, "keep", "", "`rounds` to keep, as last=5,daily=7,within=48h")
	f.StringSliceVar(&o.include, "include", nil, "`parts` to include that aren't in etcd: pki, manifests, encryption-config")
	f.StringArrayVar(&o.secrets, "include-recipient", nil, "who can open these parts, if not the `recipient`s")
	f.StringVar(&o.metrics, "metrics-file", "", "`file` for node_exporter's textfile collector")
	f.BoolVar(&o.replace, "replace", false, "replace an existing configuration; its key is kept")
	a.outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := interruptible(c.Context())
		defer stop()
		dir, err := steps.BackupDir(ctx, a.session.Options)
		if err != nil {
			return err
		}
		path := a.configPath(*config, dir)
		if _, err := os.Lstat(path); err == nil && !o.replace {
			return problem.New("edit it, or overwrite it with --replace", "%s is there already", path)
		}
		q := &questions{ctx: ctx, app: a}
		if a.output != "json" && term.IsTerminal(int(a.in.Fd())) && isTerminal(a.out) {
			q.in = print.NewAnswers(a.in)
			q.say("Backups of etcd: where to store them, who can open them, how often, how many to keep.\nNothing is set up before the last answer; Ctrl-C leaves everything as it is.\n\n")
		}
		conf := &backup.Config{Recipients: o.recipients, PassphraseFile: o.passphrase, Include: o.include, SecretsRecipients: o.secrets, MetricsFile: o.metrics}
		var kept []string
		if conf.Locations, kept, err = q.locations(o.locations); err != nil {
			return err
		}
		made, err := q.recipients(conf)
		if err != nil {
			return err
		}
		if err := q.rest(conf, o.every, o.at, o.keep); err != nil {
			return err
		}
		if err := conf.Check(); err != nil {
			return err
		}
		if err := conf.TryMetrics(); err != nil {
			return err
		}
		ids, err := q.identities(conf, made)
		if err != nil {
			return err
		}
		proof, err := conf.Prove(ctx, ids)
		if err != nil {
			return err
		}
		if conf.Proven = proof.Opened; len(conf.Recipients) == 0 {
			conf.Proven = proof.Opened[1:] // the passphrase is in its file, and no recipient
		}
		_, kerr := os.Lstat(backup.KeyPath(path))
		if err := conf.Write(path, o.replace); err != nil {
			return err
		}
		foreign := 0
		if errors.Is(kerr, fs.ErrNotExist) { // a new key knows no earlier backup
			a.saying("looking for earlier backups")
			foreign = conf.Foreign(ctx)
			a.saying("")
		}
		if a.output == "json" {
			return trust.JSON(a.out).Encode(print.BackupInitLine{
				Head: head("backup-init"), Config: path, Key: backup.KeyPath(path), Locations: conf.Locations, Kept: kept, Opened: len(proof.Opened), Recipients: len(proof.Opened) + len(proof.Unproven), Unproven: proof.Unproven, Foreign: foreign,
			})
		}
		q.say("%s The test file was opened: %d of %s proven\n", text.SymDone, len(proof.Opened), text.Plural(len(proof.Opened)+len(proof.Unproven), "recipient is", "recipients are"))
		for _, r := range proof.Unproven {
			q.say("%s Not proven, as its identity isn't here: %s\n", text.SymWarn, trust.Clip(trust.Text(r), 80))
		}
		q.say("%s %s and %s written\n", text.SymDone, trust.Text(path), trust.Text(filepath.Base(backup.KeyPath(path))))
		if foreign > 0 {
			q.say("%s %s there with another key: to restore from them, add the former backup.key to the\n  new one as one more line.\n", text.SymWarn, text.Plural(foreign, "backup was made", "backups were made"))
		}
		q.say("\nNext:\n  etcd-rewind backup           takes one now\n  etcd-rewind backup enable    takes them on a timer\nOn the other control planes: copy both files, then etcd-rewind backup enable.\n")
		q.say("Keep a copy of %s outside the cluster, where the identity is: the identity\nopens the backups, and the key shows that nobody else has made them.\n", trust.Text(filepath.Base(backup.KeyPath(path))))
		return nil
	}
	return c
}

// questions are asked on a terminal; without one, in is nil, and each must have
// been answered by a flag.
type questions struct {
	ctx context.Context //nolint:containedctx // of the command that asks, to its end
	app *app
	in  *print.Answers
}

func (q *questions) say(format string, args ...any) {
	if q.app.output != "json" {
		_, _ = fmt.Fprintf(q.app.out, format, args...)
	}
}

// ask is otherwise when the answer is empty. Without a terminal it is that at once.
func (q *questions) ask(question, otherwise string) (string, error) {
	if q.in == nil {
		return otherwise, nil
	}
	if otherwise != "" {
		question += " [" + otherwise + "]"
	}
	s, err := q.in.Ask(q.ctx, q.app.out, question+": ")
	if errors.Is(err, io.EOF) {
		err = errors.New("not all questions were answered: nothing was set up")
	}
	if s == "" {
		s = otherwise
	}
	return s, err
}

// until asks until take takes an answer: on a terminal a slip costs one line, and
// not all answers before it. given is an answer by the flag of that name.
func (q *questions) until(flag, given, question, otherwise string, take func(string) error) error {
	for {
		s := given
		if s == "" {
			var err error
			if s, err = q.ask(question, otherwise); err != nil {
				return err
			}
		}
		err := take(s)
		switch {
		case err == nil:
			return nil
		case q.in == nil || given != "":
			return q.app.usage(fmt.Errorf("--%s: %w", flag, err))
		}
		_ = print.Failure(q.app.out, err)
	}
}

// locations tries each; on a terminal one that doesn't work is asked for again.
func (q *questions) locations(given []string) (good, kept []string, err error) {
	var tried []string
	try := func(l string) error {
		s, err := backup.Open(l)
		if err != nil {
			return err
		}
		if slices.Contains(tried, s.Location()) {
			return problem.New("", "%s is named already", s.Location())
		}
		q.app.saying("trying " + s.Location())
		k, err := backup.Try(q.ctx, s)
		q.app.saying("")
		if err != nil {
			return err
		}
		how := ""
		if k {
			kept, how = append(kept, s.Location()), " (files there can't be deleted for a while: the test file stays)"
		}
		q.say("%s %s: written, read back, deleted%s\n", text.SymDone, trust.Text(s.Location()), how)
		good, tried = append(good, l), append(tried, s.Location())
		return nil
	}
	for _, l := range given {
		if err := try(l); err != nil {
			return nil, nil, err
		}
	}
	for len(given) == 0 && q.in != nil {
		question := "Where to: file:///mnt/nas, s3://bucket/prefix or sftp://host/path"
		if len(good) > 0 {
			question = "One more location, or empty"
		}
		l, err := q.ask(question, "")
		if err != nil {
			return nil, nil, err
		}
		if l == "" && len(good) > 0 {
			break
		}
		if l == "" {
			continue
		}
		if err := try(l); err != nil {
			if q.ctx.Err() != nil {
				return nil, nil, err
			}
			_ = print.Failure(q.app.out, err)
		}
	}
	if len(good) == 0 {
		return nil, nil, q.app.usage(errors.New("--location is missing: where are backups to be stored?"))
	}
	return good, kept, nil
}

// recipients asks for whom. On a terminal somebody without an identity gets a
// new one, shown once.
func (q *questions) recipients(c *backup.Config) (made *age.X25519Identity, err error) {
	for len(c.Recipients) == 0 && c.PassphraseFile == "" {
		if q.in == nil {
			return nil, q.app.usage(errors.New("--recipient is missing: who can open the backups?"))
		}
		r, err := q.ask("Who can open them: age1…, an SSH public key, or empty for a new identity", "")
		switch {
		case err != nil:
			return nil, err
		case r != "":
			if _, err := backup.ParseRecipient(r); err != nil {
				_ = print.Failure(q.app.out, err)
				continue
			}
			c.Recipients = append(c.Recipients, r)
			for {
				more, err := q.ask("One more, an escrow key perhaps, or empty", "")
				if err != nil {
					return nil, err
				}
				if more == "" {
					break
				}
				if _, err := backup.ParseRecipient(more); err != nil {
					_ = print.Failure(q.app.out, err)
					continue
				}
				c.Recipients = append(c.Recipients, more)
			}
			return nil, nil
		}
		if made, err = age.GenerateX25519Identity(); err != nil {
			return nil, err
		}
		c.Recipients = []string{made.Recipient().String()}
		q.say("\nThis is the identity. Store it now, in a password manager or a safe: it is\nshown once, and kept nowhere on this node. Without it the backups are lost.\n\n  %s\n\n", made.String())
	}
	return made, nil
}

// rest asks how often and how many.
func (q *questions) rest(c *backup.Config, every, at, keep string) error {
	if at != "" {
		var err error
		if c.Schedule.At, err = backup.ParseClock(at); err != nil {
			return q.app.usage(fmt.Errorf("--at: %w", err))
		}
	}
	err := q.until("every", every, "How often (10m, 30m, 1h, 6h, 1d)", usualEvery, func(s string) (err error) {
		if c.Schedule.Every, err = backup.ParseDuration(s); err == nil && q.in != nil {
			err = c.Schedule.Check()
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := q.until("keep", keep, "Rounds to keep", usualKeep, func(s string) (err error) {
		c.Keep, err = parseKeep(s)
		return err
	}); err != nil {
		return err
	}
	if q.in != nil && len(c.Include) == 0 {
		return q.until("include", "", "Also its CAs, manifests and encryption keys, in a second file (yes or no)", "no", func(s string) error {
			switch strings.ToLower(s) {
			case "yes", "y":
				c.Include = []string{backup.IncludePKI, backup.IncludeManifests, backup.IncludeEncryption}
			case "no", "n":
			default:
				return problem.New("", "answer yes or no")
			}
			return nil
		})
	}
	return nil
}

// parseKeep reads last=5,daily=7,within=48h.
func parseKeep(s string) (p backup.Policy, err error) {
	for part := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		to := map[string]*int{"last": &p.Last, "hourly": &p.Hourly, "daily": &p.Daily, "weekly": &p.Weekly, "monthly": &p.Monthly}[name]
		switch {
		case ok && name == "within":
			if p.Within, err = backup.ParseDuration(value); err != nil {
				return p, err
			}
		case ok && to != nil:
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 {
				return p, fmt.Errorf("%q is not a number of rounds", value)
			}
			*to = n
		default:
			return p, fmt.Errorf("%q: it takes last, hourly, daily, weekly and monthly=NUMBER, within=TIME", part)
		}
	}
	return p, nil
}

// identities are those that prove that the backups can be opened. made is a new
// one, which the person must have stored by now.
func (q *questions) identities(c *backup.Config, made *age.X25519Identity) ([]age.Identity, error) {
	if c.PassphraseFile != "" {
		if q.in == nil {
			// Whoever wrote the file has it; a slip of a person at a terminal is found there.
			ids, err := c.PassphraseIdentity()
			if err != nil {
				return nil, err
			}
			more, err := q.app.identities(q.ctx)
			return append(ids, more...), err
		}
		return q.proven(c, "The passphrase, once more: ", func(pass string) ([]age.Identity, error) {
			id, err := age.NewScryptIdentity(pass)
			if err != nil {
				return nil, err
			}
			more, err := q.app.identities(q.ctx)
			return append(more, id), err
		})
	}
	if len(q.app.session.Options.Identities) > 0 && made == nil {
		return q.app.identities(q.ctx)
	}
	if q.in == nil {
		return nil, q.app.usage(errors.New("--identity is missing: nothing is set up before a test file was opened with it"))
	}
	question := "The identity, AGE-SECRET-KEY-…, or the path of its file: "
	if made != nil {
		question = "The identity, from where you have stored it: "
	}
	return q.proven(c, question, func(s string) ([]age.Identity, error) {
		if !strings.HasPrefix(strings.ToUpper(s), "AGE-SECRET-KEY-") {
			return snapshot.ReadIdentities(q.ctx, s, q.app.asker())
		}
		ids, err := age.ParseIdentities(strings.NewReader(s))
		if err != nil {
			err = problem.New("", "that is not an age identity")
		}
		return ids, err
	})
}

// identities are those of --identity.
func (a *app) identities(ctx context.Context) (all []age.Identity, err error) {
	for _, file := range a.session.Options.Identities {
		ids, err := snapshot.ReadIdentities(ctx, file, a.asker())
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	return all, nil
}

// proven asks until what is typed, which isn't shown, opens the test file; with
// other recipients for what is included, one identity after the other.
func (q *questions) proven(c *backup.Config, question string, read func(string) ([]age.Identity, error)) ([]age.Identity, error) {
	var all []age.Identity
	for {
		s, err := q.in.AskSecret(q.ctx, q.app.out, question)
		if errors.Is(err, io.EOF) {
			err = errors.New("the identity was not given: nothing was set up")
		}
		if err != nil {
			return nil, err
		}
		if s == "" {
			continue
		}
		ids, err := read(s)
		if err == nil {
			all = append(all, ids...)
			_, err = c.Prove(q.ctx, all)
		}
		switch {
		case err == nil:
			return all, nil
		case q.ctx.Err() != nil:
			return nil, q.ctx.Err()
		}
		_ = print.Failure(q.app.out, err)
	}
}

func (a *app) backupEnable(config *string) *cobra.Command {
	var show bool
	var drills string
	c := &cobra.Command{
		Use:   "enable",
		Short: "Take backups on a systemd timer, and drill them on another",
		Long: `Take backups on a systemd timer, and drill them on another.

It writes a timer and a service, and starts the timer. The service may write
where backups need to, and runs at low priority. Every control plane may
have it: each round is taken by the first node, and by the next one if that is
down. --print shows the files for configuration management.

With --drill weekly a second timer runs: etcd-rewind drill latest. That has to
open the backups, so --identity FILE names an identity, which has to stay on
this node: whoever can read it can read every backup. Make a separate identity
for drills, as one more recipient, so that it can be replaced alone. Without
--drill an existing drill timer is left unchanged; --drill never removes it.

Without --drill, --identity FILE proves that the backups can be opened, as init
does: after recipients were changed by hand. It is stored nowhere.`,
		Example: `  etcd-rewind backup enable
  etcd-rewind backup enable --drill weekly --identity /etc/etcd-rewind/drill-identity.txt
  etcd-rewind backup enable --print`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			conf, dir, err := a.configured(ctx, *config)
			if err != nil {
				return err
			}
			if conf.Schedule.Every == 0 {
				return problem.New("add it to the configuration: schedule: {every: 1h}", "%s has no schedule", conf.Path)
			}
			if drills != "" && drills != noDrills && !slices.Contains(backup.DrillTimes, drills) {
				return a.usage(fmt.Errorf("--drill takes %s or %s, not %q", strings.Join(backup.DrillTimes, ", "), noDrills, drills))
			}
			timed, facts, err := a.timed(ctx, dir)
			if err != nil {
				return err
			}
			units := conf.Units(backup.Timed{Program: timed.Program, Flags: timed.Flags, Writes: append(conf.WritesOf(), timed.Writes...), StateDir: timed.StateDir})
			if drills != "" && drills != noDrills {
				more, err := a.drillUnits(ctx, conf, timed, facts, drills)
				if err != nil {
					return err
				}
				units = append(units, more...)
			}
			if show {
				return a.showUnits(units, false, nil)
			}
			if a.session.Options.Own {
				return problem.New("show the units with --print", "a practice node has no systemd of its own")
			}
			unproven := conf.Unproven()
			if len(a.session.Options.Identities) > 0 {
				ids, err := a.identities(ctx)
				if err != nil {
					return err
				}
				switch _, err := conf.Prove(ctx, ids); {
				case err == nil:
					unproven = nil
				case drills == "" || drills == noDrills: // a drill's identity opens what it needs, and was tried
					return err
				}
			}
			if err := backup.Enable(ctx, backup.UnitDir, units); err != nil {
				return err
			}
			if drills == noDrills {
				if err := backup.DisableDrills(ctx, backup.UnitDir); err != nil {
					return err
				}
			}
			if err := backup.Enabled(conf, dir, time.Now()); err != nil {
				return err
			}
			if a.output == "json" {
				return a.showUnits(units, true, unproven)
			}
			for _, line := range text.Doubt(unproven, print.WidthOf(a.out)) {
				_, _ = fmt.Fprintln(a.out, line)
			}
			_, err = fmt.Fprintf(a.out, "%s %s is enabled: every %s. Take the first now: etcd-rewind backup\n", text.SymDone, backup.TimerName, conf.Schedule.Every)
			if err == nil && len(units) > 2 {
				_, err = fmt.Fprintf(a.out, "%s %s is enabled: %s. Run the first now: systemctl start %s\n", text.SymDone, backup.DrillTimerName, drills, backup.DrillServiceName)
			}
			return err
		},
	}
	c.Flags().BoolVar(&show, "print", false, "only print the timers and the services")
	c.Flags().StringVar(&drills, "drill", "", "also drill on a timer: `how often`, "+strings.Join(backup.DrillTimes, ", ")+" or "+noDrills)
	a.outputFlag(c)
	return c
}

// noDrills turns the timer of drills off.
const noDrills = "never"

// drillUnits are those of a timer that drills. What opens the backups has to be
// on this node for it, is named by the user, and is tried here.
func (a *app) drillUnits(ctx context.Context, conf *backup.Config, timed backup.Timed, facts *steps.Facts, when string) ([]backup.Unit, error) {
	d := backup.Drilled{Program: timed.Program, Flags: timed.Flags, When: when}
	var ids []age.Identity
	if p := conf.PassphraseFile; p != "" {
		var err error
		if ids, err = conf.PassphraseIdentity(); err != nil {
			return nil, err
		}
		d.Flags = append(slices.Clone(d.Flags), "--passphrase-file", p)
	} else if len(a.session.Options.Identities) == 0 {
		return nil, problem.New("make one for drills alone, add its recipient, and name its file: --identity /etc/etcd-rewind/drill-identity.txt", "a drill on a timer has to open the backups, and no identity was named")
	}
	for _, file := range a.session.Options.Identities {
		file, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		if err := backup.Private(file); err != nil {
			return nil, problem.From(fmt.Errorf("the timer's identity: %w", err))
		}
		more, err := snapshot.ReadIdentities(ctx, file, nil) // nobody is there to be asked
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
		d.Flags = append(slices.Clone(d.Flags), "--identity", file)
	}
	if ok, err := conf.Opens(ctx, ids); err != nil {
		return nil, err
	} else if !ok {
		return nil, problem.New("name the one that belongs to a recipient in "+conf.Path+"; add its recipient there if it is new", "the identity doesn't open the backups, so a drill couldn't either")
	}
	if conf.Path != backup.ConfigPath {
		d.Flags = append(slices.Clone(d.Flags), "--backup-config", conf.Path)
	}
	if facts != nil && facts.Etcd != nil {
		d.Writes = append(d.Writes, facts.BesideData())
	}
	if conf.MetricsFile != "" {
		d.Writes = append(d.Writes, filepath.Dir(conf.MetricsFile))
	}
	if timed.StateDir != "" {
		d.Writes = append(d.Writes, timed.StateDir)
	}
	return backup.DrillUnits(d), nil
}

// timed is what the service runs: this program, told where things are on this
// node, as it sees no other process's files in a file system of its own. The
// facts are nil when the node can't be looked at.
func (a *app) timed(ctx context.Context, dir string) (backup.Timed, *steps.Facts, error) {
	t := backup.Timed{}
	var err error
	if t.Program, err = os.Executable(); err != nil {
		return t, nil, err
	}
	if err := trust.File(t.Program); err != nil && !a.session.Options.Own {
		return t, nil, problem.From(fmt.Errorf("root's timer can't run this program: %w; install it, in /usr/local/bin for example", err))
	}
	o := a.session.Options
	facts, err := a.discover(ctx)
	if err == nil && facts.Kubelet != nil {
		if o.KubeletConfig == "" {
			o.KubeletConfig = facts.Kubelet.ConfigPath
		}
		if o.Manifests == "" {
			o.Manifests = facts.Kubelet.StaticPodPath
		}
		if node, err := backup.Of(facts); err == nil {
			t.Writes = backup.StageWrites(node.DataDir, dir)
		}
	}
	for _, f := range []struct{ flag, value string }{{"--kubelet-config", o.KubeletConfig}, {"--manifests", o.Manifests}, {"--cri", o.CRI}, {"--etcd-unit", o.EtcdUnit}, {"--state-dir", o.StateDir}} {
		if f.value != "" {
			t.Flags = append(t.Flags, f.flag, f.value)
		}
	}
	if a.session.Options.StateDir != "" {
		t.StateDir = dir
	}
	if err != nil {
		facts = nil
	}
	return t, facts, nil
}

func (a *app) showUnits(units []backup.Unit, enabled bool, unproven *problem.Problem) error {
	if a.output == "json" {
		return trust.JSON(a.out).Encode(print.BackupTimerLine{Head: head("backup-timer"), Enabled: enabled, Written: enabled, Units: units, Unproven: unproven})
	}
	for i, u := range units {
		if i > 0 {
			_, _ = fmt.Fprintln(a.out)
		}
		_, _ = fmt.Fprintf(a.out, "%s\n%s", trust.Comment(filepath.Join(backup.UnitDir, u.Name)), u.Text)
	}
	return nil
}

func (a *app) backupDisable() *cobra.Command {
	c := &cobra.Command{
		Use:   "disable",
		Short: "Stop the timers of backups and drills, and remove them",
		Long: `Stop the timers of backups and drills, and remove them.

The configuration and all backups stay; a backup in progress is finished.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			dir, err := steps.BackupDir(ctx, a.session.Options)
			if err != nil {
				return err
			}
			if a.session.Options.Own {
				return problem.New("", "a practice node has no systemd of its own")
			}
			if err := backup.Disable(ctx, backup.UnitDir); err != nil {
				return err
			}
			if err := backup.Disabled(dir); err != nil {
				return err
			}
			if a.output == "json" {
				return trust.JSON(a.out).Encode(print.BackupTimerLine{Head: head("backup-timer"), Written: true})
			}
			_, err = fmt.Fprintf(a.out, "%s %s is off\n", text.SymDone, backup.TimerName)
			return err
		},
	}
	a.outputFlag(c)
	return c
}
