package backup

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// Event is what is being done while a backup is taken.
type Event struct {
	Step     Step   `json:"step"`
	State    State  `json:"state"`
	Location string `json:"location,omitempty"` // of what is done there
	Message  string `json:"message,omitempty"`
	Done     int64  `json:"done,omitempty"` // of Total, while it runs
	Total    int64  `json:"total,omitempty"`
}

// Step is one of those that a backup has.
type Step string

// The steps.
const (
	StepRound   Step = "round"   // look who takes it
	StepSave    Step = "save"    // from etcd, encrypted on the way, verified
	StepInclude Step = "include" // the second file
	StepSend    Step = "send"    // to one location, and read back
	StepPrune   Step = "prune"   // there
)

// State is how far a step is.
type State string

// The states. Waiting is for another node.
const (
	Running State = "running"
	Waiting State = "waiting"
	Done    State = "done"
	Failed  State = "failed"
)

// Result is how a backup went.
type Result struct {
	OK    bool   `json:"ok"` // everywhere
	Round Round  `json:"round"`
	Node  string `json:"node"`
	// Record is that of the backup; nil when none was made: another node has
	// taken the round, or it failed before.
	Record    *Record          `json:"record,omitempty"`
	Locations []Outcome        `json:"locations"`
	Error     *problem.Problem `json:"error,omitempty"` // the first of all
	Seconds   float64          `json:"seconds"`
}

// Outcome is how a backup went in one location.
type Outcome struct {
	Location string `json:"location"`
	OK       bool   `json:"ok"`
	// By is the node whose backup of the round is there.
	By      string           `json:"by,omitempty"`
	Error   *problem.Problem `json:"error,omitempty"`
	Seconds float64          `json:"seconds,omitempty"` // of sending and reading back
	Pruned  *Pruned          `json:"pruned,omitempty"`
}

// Taking is the taking of one backup.
type Taking struct {
	Config  *Config
	Node    *Node
	Dir     string // steps.BackupDir
	Version string // of this program
	// Scheduled is for the turn of the schedule, which another node may have
	// taken already; else it is one more, now.
	Scheduled bool
	Tell      func(Event) // may be nil

	now    func() time.Time
	save   func(context.Context, snapshot.SaveRequest) (*snapshot.Info, error)
	pause  func(context.Context, time.Duration)
	stores []Store
	at     func(step string) // a test may end the process here
}

// idle is how long a store may take or give nothing.
const idle = 2 * time.Minute

// taken is what a Taking works on.
type taken struct {
	*Taking
	state   *steps.Backups
	stage   string // directory of what is made here
	began   time.Time
	cluster ClusterID
	res     *Result
	// sent are the records of what was stored, by location, and incomplete is why a
	// backup has no second file, though it should.
	sent       map[int]*Record
	incomplete error
}

// Take takes a backup: saved from etcd and verified, encrypted on the way, sent to
// every location and read back there, its record last; then what isn't to be kept
// any more is removed. What fails in one location stops no other, and nothing is
// removed then. The result is there whenever the locations are known, and is kept
// for steps.ReadBackups. The error, a *problem.Problem, is for a backup that could
// not begin. One that was killed leaves nothing that the next doesn't remove.
func (t *Taking) Take(ctx context.Context) (*Result, error) {
	w := &taken{Taking: t, sent: map[int]*Record{}}
	if w.now == nil {
		w.now = time.Now
	}
	if w.save == nil {
		w.save = snapshot.Save
	}
	if w.pause == nil {
		w.pause = func(ctx context.Context, d time.Duration) {
			select {
			case <-ctx.Done():
			case <-time.After(d):
			}
		}
	}
	if w.Tell == nil {
		w.Tell = func(Event) {}
	}
	if w.at == nil {
		w.at = func(string) {}
	}
	missed := func(err error) (*Result, error) {
		p := problem.From(err)
		Missed(t.Config, t.Dir, p, w.now())
		return nil, p
	}
	if w.stores == nil {
		var err error
		if w.stores, err = t.Config.Stores(); err != nil {
			return missed(err)
		}
	}
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return missed(fmt.Errorf("the state directory: %w", err))
	}
	release, err := node.Lock(filepath.Join(t.Dir, "lock"))
	if held, ok := errors.AsType[*node.LockedError](err); ok {
		return nil, problem.New("wait for it, or stop it", "a backup is under way on this node: %s", held.Holder)
	}
	if err != nil {
		return missed(err)
	}
	defer func() { _ = release() }()
	return w.take(ctx), nil
}

func (w *taken) take(ctx context.Context) *Result {
	w.began = w.now()
	w.res = &Result{Node: w.Node.Name, Round: RoundAt(w.began)}
	if w.Scheduled {
		w.res.Round = w.Config.Schedule.Round(w.began)
	}
	var locations []string
	for _, s := range w.stores {
		w.res.Locations = append(w.res.Locations, Outcome{Location: s.Location()})
		locations = append(locations, s.Location())
	}
	w.state = stateOf(w.Config, w.Dir, locations)
	if l := w.state.Last; !w.Scheduled && l != nil && l.Round == w.res.Round.String() {
		w.pause(ctx, time.Second) // one more in a second would have the name of the last
		w.res.Round = RoundAt(w.now())
	}
	defer func() {
		w.res.Seconds = w.now().Sub(w.began).Seconds()
		w.finish()
	}()
	if err := w.work(ctx); err != nil {
		if ctx.Err() != nil {
			err = problem.New("", "interrupted")
		}
		w.res.Error = problem.From(err)
	}
	w.res.OK = w.res.Error == nil
	for i := range w.res.Locations {
		o := &w.res.Locations[i]
		if o.Error == nil && o.Pruned != nil {
			o.Error = o.Pruned.Failed
		}
		w.res.OK = w.res.OK && o.OK && o.Error == nil
		w.res.Error = cmp.Or(w.res.Error, o.Error)
	}
	return w.res
}

// stateOf is how the backups of a configuration stood before. When that can't be read
// it is written again. Of a location that was taken out nobody asks any more; nil
// are those that there were.
func stateOf(c *Config, dir string, locations []string) *steps.Backups {
	b, err := steps.ReadBackups(dir)
	if err != nil || b == nil {
		b = &steps.Backups{}
	}
	b.Config = c.Path
	if locations == nil {
		return b
	}
	b.EverySeconds = int64(time.Duration(c.Schedule.Every) / time.Second)
	before := b.Locations
	b.Locations = nil
	for _, name := range locations {
		at := b.At(name)
		for _, l := range before {
			if l.Location == name {
				*at = l
			}
		}
	}
	return b
}

// kept writes how it stands. That it can't is reported in the end, by what can't be
// written then.
func (w *taken) kept() { _ = w.state.Write(w.Dir) }

func (w *taken) work(ctx context.Context) error {
	w.at("clean up")
	if err := w.cleanUp(); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(w.stage) }()
	id, err := w.Node.UID(ctx)
	if err != nil {
		return err
	}
	if !uid.MatchString(id) {
		return problem.New("", "kube-system has an invalid UID: %.60q", id)
	}
	w.cluster = ClusterID{KubeSystemUID: id, CASHA256: caSHA256(w.Node.CA)}
	w.state.Cluster = id
	w.removeHalves(ctx)
	all := make([]int, len(w.stores))
	for i := range all {
		all[i] = i
	}
	if w.Scheduled {
		err = w.turn(ctx, all)
	} else {
		err = w.makeAndSend(ctx, all, nil)
	}
	if err == nil {
		err = w.incomplete
	}
	w.afterwards(ctx, err == nil)
	return err
}

// afterwards removes what isn't needed any more where this node has stored a
// backup: once all locations have come to an end, and backups only when all went
// well.
func (w *taken) afterwards(ctx context.Context, well bool) {
	for _, o := range w.res.Locations {
		well = well && o.Error == nil
	}
	for i := range w.stores {
		r := w.sent[i]
		if r == nil || ctx.Err() != nil {
			continue
		}
		w.sweep(ctx, i)
		if well {
			w.prune(ctx, i, r)
		}
	}
}

// cleanUp makes the directory for what is made here, empty: a backup that was
// killed may have left its plain text.
func (w *taken) cleanUp() error {
	stage, err := stageDir(w.Node.DataDir, w.Dir)
	if err != nil {
		return problem.New("check what is there", "not enough space for the backup on etcd's own disk: %w", err)
	}
	w.stage = stage
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	return os.Mkdir(stage, 0o700)
}

// stageDir is where a backup is made: on etcd's own disk, for until it is
// encrypted it is as secret as what lies there. That is the state directory, or
// beside the data directory, or inside when that is the root of a disk: etcd
// leaves there what it doesn't know.
func stageDir(dataDir, stateDir string) (string, error) {
	data, err := os.Stat(dataDir)
	if err != nil {
		return "", err
	}
	for _, dir := range []string{stateDir, filepath.Dir(dataDir), dataDir} {
		if st, serr := os.Stat(dir); serr == nil && device(st) == device(data) {
			if dir == stateDir {
				return filepath.Join(dir, "making"), nil
			}
			return filepath.Join(dir, ".etcd-rewind-backup"), nil
		}
	}
	return "", fmt.Errorf("%s can't be checked", dataDir)
}

// removeHalves removes what backups that were killed, or failed, have left in the
// locations: what has no record there, and uploads that weren't finished.
func (w *taken) removeHalves(ctx context.Context) {
	for _, s := range w.stores {
		at := w.state.At(s.Location())
		at.Sending = slices.DeleteFunc(at.Sending, func(name string) bool { return w.removeHalf(ctx, s, name) })
	}
	w.kept()
}

// removeHalf says whether nothing is left to do about it. name is the record of a
// backup of this node, or a claim.
func (w *taken) removeHalf(ctx context.Context, s Store, name string) bool {
	if _, _, _, is := splitClaim(name); is { // which another node may be making just now
		return sweepOwn(ctx, s, name, []string{name}, claimingFor)
	}
	_, host, ok := splitRecord(name)
	if !ok || host != w.Node.Name {
		return true
	}
	dir := path.Dir(name) + "/"
	files := []string{dir + host + secretsSuffix, dir + host + snapshotSuffix}
	err := patient(ctx, idle, func(ctx context.Context, _ func()) error {
		_, err := s.Stat(ctx, name)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil { // else it is whole
		for _, file := range files {
			err := patient(ctx, idle, func(ctx context.Context, _ func()) error { return s.Delete(ctx, file) })
			if err != nil && !errors.Is(err, ErrLocked) {
				return false
			}
		}
	}
	return sweepOwn(ctx, s, dir+host+".", append(files, name), 0)
}

// sending keeps what is on its way to a store, until done: a record stands for all
// files of its backup. What is killed meanwhile is removed by the next backup.
func (w *taken) sending(s Store, name string) (done func()) {
	const many = 20
	at := w.state.At(s.Location())
	at.Sending = append(at.Sending, name)
	if n := len(at.Sending); n > many {
		at.Sending = at.Sending[n-many:]
	}
	w.kept()
	return func() {
		at := w.state.At(s.Location())
		for i, n := range slices.Backward(at.Sending) { // one that was killed may be called so, too
			if n == name {
				at.Sending = slices.Delete(at.Sending, i, i+1)
				return
			}
		}
	}
}

// sweptEvery is how often what any node has left is looked for: that reads the
// whole location.
const sweptEvery = 24 * time.Hour

// sweep throws away what any node has left in a location long ago. That it can't is
// no failure of the backup.
func (w *taken) sweep(ctx context.Context, i int) {
	s := w.stores[i]
	at := w.state.At(s.Location())
	if age := w.now().Sub(at.Swept); 0 <= age && age < sweptEvery {
		return
	}
	w.at("sweep " + s.Location())
	if sweep(ctx, s, w.cluster.KubeSystemUID) == nil {
		at.Swept = w.now().UTC()
	}
}

// turn takes the turn of the schedule wherever no other node has.
func (w *taken) turn(ctx context.Context, pending []int) error {
	seen := map[string]time.Time{} // claims that lead to nothing, by location and number
	for first := true; len(pending) > 0; first = false {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !first {
			w.pause(ctx, min(w.Config.Schedule.takeOver()/8, 15*time.Second))
		}
		var mine, theirs []int
		claimed := map[int]*standing{}
		for _, i := range pending {
			st, err := w.look(ctx, i, seen)
			switch {
			case err != nil:
				w.lost(i, StepRound, err)
			case st == nil: // done
			case st.holder != "" && st.holder != w.Node.Name:
				theirs = append(theirs, i)
			default:
				mine, claimed[i] = append(mine, i), st
			}
		}
		if len(mine) > 0 {
			if err := w.makeAndSend(ctx, mine, claimed); err != nil {
				return err
			}
		}
		pending = theirs
	}
	return nil
}

// look says how the turn stands in a location, after this node has claimed it if
// nobody else has; nil when it is done there.
func (w *taken) look(ctx context.Context, i int, seen map[string]time.Time) (*standing, error) {
	s := w.stores[i]
	w.at("look " + s.Location())
	w.Tell(Event{Step: StepRound, State: Running, Location: s.Location()})
	st, err := stands(ctx, s, w.Config.Key, w.cluster.KubeSystemUID, w.res.Round)
	if err != nil {
		return nil, err
	}
	now := w.now()
	if d := st.done; d != nil {
		if d.Record.Taken.Before(now.Add(ahead)) {
			w.res.Locations[i].OK, w.res.Locations[i].By = true, d.Node
			w.good(i, d.Record)
			w.Tell(Event{Step: StepRound, State: Done, Location: s.Location(), Message: "taken by " + d.Node})
			return nil, nil
		}
		// It was taken later than now: this clock, or that one, was set. Nobody knows
		// which, so this is no turn that is done.
		w.res.Round = RoundAt(now)
		if st, err = stands(ctx, s, w.Config.Key, w.cluster.KubeSystemUID, w.res.Round); err != nil {
			return nil, err
		}
	}
	if st.holder != "" && st.holder != w.Node.Name {
		claim := fmt.Sprintf("%s %d", s.Location(), st.claim)
		if _, ok := seen[claim]; !ok {
			seen[claim] = now
		}
		// By the time since this node saw it, and by the store's clock.
		limit := w.Config.Schedule.takeOver()
		if now.Sub(seen[claim]) < limit && now.Sub(st.since) < limit {
			w.Tell(Event{Step: StepRound, State: Waiting, Location: s.Location(), Message: st.holder + " takes it"})
			return st, nil
		}
		w.Tell(Event{Step: StepRound, State: Running, Location: s.Location(), Message: st.holder + " has claimed it and hasn't finished: taking over"})
	}
	w.at("claim " + s.Location())
	done := w.sending(s, claimName(w.cluster.KubeSystemUID, w.res.Round, st.claim+1))
	ok, err := st.take(ctx, s, w.Config.Key, claim{Cluster: w.cluster.KubeSystemUID, Round: w.res.Round, Node: w.Node.Name, Time: now.UTC()})
	if err != nil {
		return nil, err
	}
	done()
	if !ok { // another node was faster: look again
		return &standing{holder: "another node"}, nil
	}
	// One that had claimed it may have taken it since this node looked, and given up
	// its claim.
	again, err := stands(ctx, s, w.Config.Key, w.cluster.KubeSystemUID, w.res.Round)
	if err == nil && again.done == nil {
		st.holder = w.Node.Name
		return st, nil
	}
	w.giveUp(ctx, s, st)
	if err != nil {
		return nil, err
	}
	return w.look(ctx, i, seen)
}

// giveUp removes a claim; nil for none. Once the round is taken nobody needs it, and
// then it isn't an error that it stays.
func (w *taken) giveUp(ctx context.Context, s Store, st *standing) {
	if st == nil || st.claim == 0 {
		return
	}
	name := claimName(w.cluster.KubeSystemUID, w.res.Round, st.claim)
	_ = patient(context.WithoutCancel(ctx), 10*time.Second, func(ctx context.Context, _ func()) error { return s.Delete(ctx, name) })
}

// lost is a location that failed.
func (w *taken) lost(i int, step Step, err error) {
	o := &w.res.Locations[i]
	o.OK = false
	o.Error = problem.From(err)
	if !strings.HasPrefix(o.Error.Cause, o.Location+": ") { // it is shown among other locations'
		o.Error = o.Error.About(o.Location)
	}
	if w.Scheduled && errors.Is(err, unix.EROFS) { // the service's cage looks like that
		o.Error.Hint = "mount it writable; if it was added or mounted since the timer was enabled: etcd-rewind backup enable, then systemctl start " + ServiceName
	}
	o.Error = w.Config.placed(o.Error, o.Location)
	at := w.state.At(o.Location)
	at.Failures++
	at.Failed, at.Error = w.now().UTC(), o.Error
	w.kept()
	w.Tell(Event{Step: step, State: Failed, Location: o.Location, Message: o.Error.Cause})
}

// good is a location that has a good backup, taken by whichever node.
func (w *taken) good(i int, r *Record) {
	at := w.state.At(w.res.Locations[i].Location)
	*at = steps.BackupLocation{
		Location: at.Location, Good: r.Taken, Round: r.Round.String(), Node: r.Node, Revision: r.Revision,
		Sending: at.Sending, Swept: at.Swept, Locked: at.Locked, LockedTried: at.LockedTried,
	}
}

// made is a backup as it lies on this node, encrypted.
type made struct {
	record            *Record
	snapshot, secrets string // paths
}

// makeAndSend makes a backup, and sends it to some of the locations. claims are
// those to be given up.
func (w *taken) makeAndSend(ctx context.Context, to []int, claims map[int]*standing) error {
	m, incomplete, err := w.make(ctx)
	if err != nil {
		for _, i := range to {
			w.giveUp(ctx, w.stores[i], claims[i])
		}
		return err
	}
	defer func() { _ = errors.Join(os.Remove(m.snapshot), os.Remove(m.secrets)) }() // a later location has one of its own
	w.res.Record, w.incomplete = m.record, cmp.Or(w.incomplete, incomplete)
	for _, i := range to {
		began := w.now()
		err := w.send(ctx, i, m)
		if err != nil {
			w.lost(i, StepSend, err)
		} else {
			w.res.Locations[i].OK, w.res.Locations[i].By = true, w.Node.Name
			w.sent[i] = m.record
			w.good(i, m.record)
			w.kept()
			w.Tell(Event{Step: StepSend, State: Done, Location: w.stores[i].Location()})
		}
		w.res.Locations[i].Seconds = w.now().Sub(began).Seconds()
		w.at("give up the claim " + w.stores[i].Location())
		w.giveUp(ctx, w.stores[i], claims[i])
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// make makes the files of a backup. incomplete is why there is no second file,
// though there should be: the first one is worth having all the same.
func (w *taken) make(ctx context.Context) (m *made, incomplete, err error) {
	fail := func(step Step, err error) error {
		w.Tell(Event{Step: step, State: Failed, Message: problem.From(err).Cause})
		return err
	}
	w.at("save")
	w.Tell(Event{Step: StepSave, State: Running})
	to, err := w.Config.AgeRecipients()
	if err != nil {
		return nil, nil, fail(StepSave, err)
	}
	r := &Record{
		Format: RecordFormat, Tool: w.Version, Cluster: w.cluster, Node: w.Node.Name, Round: w.res.Round, Taken: w.now().UTC().Truncate(time.Second),
		Kubernetes: w.Node.Kubernetes, Etcd: w.Node.EtcdServer,
	}
	m = &made{record: r, snapshot: filepath.Join(w.stage, "snapshot"), secrets: filepath.Join(w.stage, "secrets")}
	info, sealed, err := w.saved(ctx, m.snapshot, to)
	if err != nil {
		return nil, nil, fail(StepSave, err)
	}
	if id := info.KubeSystemUID; id != "" && id != w.cluster.KubeSystemUID {
		return nil, nil, fail(StepSave, problem.New("take it again", "etcd's data was replaced while it was saved: it is of cluster %s now", id))
	}
	r.Revision, r.Keys, r.SnapshotSHA256, r.Encryption = info.Revision, info.Keys, info.SHA256, info.EncryptedPrefixes
	r.File = File{Name: r.Node + snapshotSuffix, Sealed: *sealed}
	w.Tell(Event{Step: StepSave, State: Done, Message: fmt.Sprintf("revision %d, %d keys, %s; %s encrypted", r.Revision, r.Keys, steps.Bytes(sealed.PlainSize), steps.Bytes(sealed.Size))})
	if len(w.Config.Include) == 0 {
		return m, nil, nil
	}
	w.at("include")
	w.Tell(Event{Step: StepInclude, State: Running})
	if r.Secrets, err = w.included(ctx, m.secrets); err != nil {
		return m, fail(StepInclude, err), nil
	}
	said := "nothing to include"
	if r.Secrets != nil {
		said = fmt.Sprintf("%d files", len(r.Secrets.Content))
	}
	w.Tell(Event{Step: StepInclude, State: Done, Message: said})
	return m, nil, nil
}

// saved saves etcd's state, encrypts it on the way, and verifies it. The plain
// file is removed before this returns.
func (w *taken) saved(ctx context.Context, path string, to []age.Recipient) (info *snapshot.Info, sealed *Sealed, err error) {
	if err := w.room(); err != nil {
		return nil, nil, err
	}
	plain := filepath.Join(w.stage, "plain")
	defer func() { _ = os.Remove(plain) }()
	info, err = w.save(ctx, snapshot.SaveRequest{Etcd: w.Node.Etcd, Path: plain, Node: w.Node.Name, Scratch: true, Pace: w.pace(), Progress: func(p snapshot.Progress) {
		w.Tell(Event{Step: StepSave, State: Running, Message: p.Phase, Done: p.Done, Total: p.Total})
	}, Follow: func(r io.Reader) (err error) {
		if sealed, err = sealTo(ctx, path, r, to); err != nil {
			return fmt.Errorf("encrypting the snapshot: %w", err)
		}
		return nil
	}})
	w.at("encrypted")
	switch {
	case err != nil:
		return nil, nil, err
	case sealed.PlainSize != info.Size:
		return nil, nil, problem.New("take it again", "%d bytes were encrypted of a snapshot with %d", sealed.PlainSize, info.Size)
	}
	w.at("remove the plain file")
	return info, sealed, os.Remove(plain)
}

// pace is how fast etcd is read, bytes per second. A backup that is taken now is waited
// for: as fast as etcd sends. One that a timer takes is waited for by nobody but the
// cluster's own writes, which etcd lets wait longer the faster it sends (docs/benchmarks.md); but
// it is to be done long before another node takes its turn over.
func (w *taken) pace() int64 {
	const gentle = 20e6
	if !w.Scheduled {
		return 0
	}
	return max(gentle, w.Node.Size/int64(w.Config.Schedule.takeOver()/2/time.Second))
}

// room says whether etcd's disk holds the snapshot twice, plain and encrypted: a
// full one would stop etcd.
func (w *taken) room() error {
	const spare = 256 << 20
	var st unix.Statfs_t
	if err := unix.Statfs(w.stage, &st); err != nil || w.Node.Size == 0 {
		return nil // it is found out by writing
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < 2*w.Node.Size+spare {
		return problem.New("free some space there: etcd needs it, too", "the backup needs %d MB in %s for a while, %d MB are free", (2*w.Node.Size+spare)/1e6, w.stage, free/1e6)
	}
	return nil
}

// sealTo encrypts a stream into a new file.
func sealTo(ctx context.Context, path string, from io.Reader, to []age.Recipient) (*Sealed, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	s, err := Seal(ctx, buffered, from, to...)
	if err == nil {
		err = buffered.Flush()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return s, err
}

// included makes the second file; nil without an error when there is nothing to
// include. Its plain text lies nowhere.
func (w *taken) included(ctx context.Context, path string) (*File, error) {
	to, err := w.Config.AgeSecretsRecipients()
	if err != nil {
		return nil, err
	}
	var tar bytes.Buffer
	names, err := w.Node.archive(ctx, &tar, w.Config.Include)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	s, err := sealTo(ctx, path, &tar, to)
	if err != nil {
		return nil, err
	}
	return &File{Name: w.Node.Name + secretsSuffix, Sealed: *s, Content: names}, nil
}

// send sends a backup to a location, its record last.
func (w *taken) send(ctx context.Context, i int, m *made) (err error) {
	s, r := w.stores[i], m.record
	done := w.sending(s, r.Name())
	defer func() {
		if err != nil { // what there is of it is half a backup
			with, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			if !w.removeHalf(with, s, r.Name()) {
				return
			}
		}
		done()
	}()
	w.at("send " + s.Location())
	w.Tell(Event{Step: StepSend, State: Running, Location: s.Location(), Total: r.File.Size})
	if err := Keep(ctx, s, r.SnapshotName(), w.content(s, m.snapshot, r.File.Sealed), idle); err != nil {
		return err
	}
	if r.Secrets != nil {
		w.at("send the second file " + s.Location())
		if err := Keep(ctx, s, r.SecretsName(), w.content(s, m.secrets, r.Secrets.Sealed), idle); err != nil {
			return err
		}
	}
	data, err := r.Seal(w.Config.Key)
	if err != nil {
		return err
	}
	w.at("send the record " + s.Location())
	sum := sha256.Sum256(data)
	return Keep(ctx, s, r.Name(), Content{
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]),
	}, idle)
}

// content is a file that is sent, which reports how far it is.
func (w *taken) content(s Store, path string, sealed Sealed) Content {
	return Content{Size: sealed.Size, SHA256: sealed.SHA256, Open: func() (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		done := int64(0)
		return struct {
			io.Reader
			io.Closer
		}{readFunc(func(p []byte) (int, error) {
			n, err := f.Read(p)
			done += int64(n)
			w.Tell(Event{Step: StepSend, State: Running, Location: s.Location(), Done: done, Total: sealed.Size})
			return n, err
		}), f}, nil
	}}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// lockedFor is how long a backup that couldn't be removed is left in peace.
const lockedFor = 24 * time.Hour

// prune removes what isn't kept in a location, after a good backup there.
func (w *taken) prune(ctx context.Context, i int, r *Record) {
	if w.Config.Keep.Empty() {
		return
	}
	s := w.stores[i]
	w.at("prune " + s.Location())
	w.Tell(Event{Step: StepPrune, State: Running, Location: s.Location()})
	fail := func(err error) {
		w.res.Locations[i].Error = problem.From(err)
		w.Tell(Event{Step: StepPrune, State: Failed, Location: s.Location(), Message: w.res.Locations[i].Error.Cause})
	}
	l, err := Records(ctx, s, w.Config.Key, w.cluster.KubeSystemUID)
	if err != nil {
		fail(err)
		return
	}
	if !slices.ContainsFunc(l.Entries, func(e Entry) bool { return e.Name == r.Name() && e.Err == nil }) {
		fail(problem.New("check the store: its listings are unreliable", "%s doesn't list the backup that was just stored: nothing is removed", s.Location()))
		return
	}
	at := w.state.At(s.Location())
	tried := map[Round]bool{}
	if w.now().Sub(at.LockedTried) < lockedFor {
		for _, name := range at.Locked {
			if r, err := ParseRound(name); err == nil {
				tried[r] = true
			}
		}
	} else {
		at.LockedTried = w.now().UTC()
	}
	p := l.Prune(ctx, w.Config.Keep, w.now(), tried, false, idle)
	at.Locked = nil
	for _, r := range p.Locked {
		at.Locked = append(at.Locked, r.String())
	}
	w.res.Locations[i].Pruned = p
	if p.Failed != nil {
		fail(p.Failed)
		return
	}
	l.pruneClaims(ctx, w.Config.Key, w.now())
	w.Tell(Event{Step: StepPrune, State: Done, Location: s.Location(), Message: fmt.Sprintf("%d rounds kept, %d removed", p.Kept, len(p.Removed))})
}

// finish keeps the result.
func (w *taken) finish() {
	w.state.Last = &steps.BackupResult{Time: w.now().UTC(), Round: w.res.Round.String(), OK: w.res.OK, Error: w.res.Error, Seconds: w.res.Seconds}
	if r := w.res.Record; r != nil {
		w.state.Last.Bytes, w.state.Last.Revision = r.File.Size, r.Revision
	}
	for i := range w.res.Locations {
		o := &w.res.Locations[i]
		if at := w.state.At(o.Location); !o.OK && o.Error == nil { // it failed for all of them, before
			at.Failures++
			at.Failed, at.Error = w.now().UTC(), w.res.Error
		}
	}
	w.at("write the result")
	if err := keepResult(w.Config.MetricsFile, w.Dir, w.state); err != nil {
		w.res.OK, w.res.Error = false, cmp.Or(w.res.Error, problem.Of(err))
	}
}

// Missed keeps that a backup couldn't begin, in the state and in the metrics: the
// node wasn't to be read, or the configuration wasn't, of which Broken has what is
// known. That it can't be kept is no other error.
func Missed(c *Config, dir string, err error, now time.Time) {
	var locations []string
	for _, l := range c.Locations {
		if s, err := Open(l); err == nil {
			locations = append(locations, s.Location())
		}
	}
	b, p := stateOf(c, dir, locations), problem.From(err)
	b.Last = &steps.BackupResult{Time: now.UTC(), Error: p}
	for i := range b.Locations {
		at := &b.Locations[i]
		at.Failures++
		at.Failed, at.Error = now.UTC(), p
	}
	_ = keepResult(c.MetricsFile, dir, b) // said above
}

// Enabled keeps that a timer takes backups from now on. The error is a
// *problem.Problem.
func Enabled(c *Config, dir string, now time.Time) error {
	return changeState(dir, func(b *steps.Backups) {
		b.Config, b.EverySeconds = c.Path, int64(time.Duration(c.Schedule.Every)/time.Second)
		if b.Enabled.IsZero() {
			b.Enabled = now.UTC()
		}
	})
}

// Disabled keeps that no timer does any more. The error is a *problem.Problem.
func Disabled(dir string) error {
	if b, err := steps.ReadBackups(dir); err == nil && b == nil {
		return nil
	}
	return changeState(dir, func(b *steps.Backups) { b.Enabled = time.Time{} })
}

func changeState(dir string, change func(*steps.Backups)) error {
	b, err := steps.ReadBackups(dir)
	if err != nil || b == nil {
		b = &steps.Backups{}
	}
	change(b)
	if err := b.Write(dir); err != nil {
		return problem.From(err)
	}
	return nil
}

// StageWrites are directories besides the state directory that a backup is made
// in.
func StageWrites(dataDir, stateDir string) []string {
	stage, err := stageDir(dataDir, stateDir)
	if _, serr := os.Stat(stateDir); errors.Is(serr, fs.ErrNotExist) {
		stage, err = stageDir(dataDir, filepath.Dir(stateDir)) // it is made there
	}
	if err != nil || filepath.Base(stage) == "making" {
		return nil
	}
	return []string{filepath.Dir(stage)}
}

// Prune removes what a configuration doesn't keep, in each of its locations; with
// dry it only says what. It is refused while a backup is under way, where there
// is nothing to keep, and after a backup that failed. The error is a
// *problem.Problem.
func Prune(ctx context.Context, c *Config, dir string, dry bool, now time.Time) ([]*Pruned, error) {
	if c.Keep.Empty() {
		return nil, problem.New("add it to the configuration: keep: {last: 5, daily: 7, weekly: 4}", "%s has no keep: nothing is removed", c.Path)
	}
	stores, err := c.Stores()
	if err != nil {
		return nil, err
	}
	b, err := steps.ReadBackups(dir)
	switch {
	case err != nil:
		return nil, err
	case b == nil || b.Last == nil || b.Cluster == "":
		return nil, problem.New("take one first: etcd-rewind backup", "no backup was taken by this node: nothing is removed until one succeeds")
	case !b.Last.OK && !dry:
		return nil, problem.New("see etcd-rewind backup status, then take one: etcd-rewind backup", "the last backup failed: nothing is removed until one succeeds")
	}
	if !dry {
		release, err := node.Lock(filepath.Join(dir, "lock"))
		if held, ok := errors.AsType[*node.LockedError](err); ok {
			return nil, problem.New("wait for it, or stop it", "a backup is under way on this node: %s", held.Holder)
		}
		if err != nil {
			return nil, problem.From(err)
		}
		defer func() { _ = release() }()
	}
	found := Find(ctx, stores, c.Key, b.Cluster)
	for _, err := range found.Errors {
		if err != nil {
			return nil, err // what isn't known isn't decided
		}
	}
	var all []*Pruned
	for _, l := range found.Listings {
		p := l.Prune(ctx, c.Keep, now, nil, dry, idle)
		if all = append(all, p); !dry && p.Failed == nil {
			l.pruneClaims(ctx, c.Key, now)
			_ = sweep(ctx, l.Store, b.Cluster) // no reason to stop
		}
	}
	return all, nil
}
