package practice

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/steps"
)

// session is one try at an exercise: what is kept of it in its root, for the
// commands that run in other terminals.
type session struct {
	Format   int       `json:"format"` // 1
	ID       string    `json:"id"`
	Exercise string    `json:"exercise"`
	Root     Root      `json:"root"`
	Started  time.Time `json:"started"`
	ByHand   bool      `json:"by_hand"`
	Inside   bool      `json:"inside,omitempty"` // see Config
	Hints    int       `json:"hints"`            // shown so far
	Ports    ports     `json:"ports"`
	Socket   string    `json:"socket"`

	node *Node // in the process that holds it

	// What the grader compares with.
	StartRevision int64  `json:"start_revision"`
	ClusterID     uint64 `json:"cluster_id"` // of the data in OldDir
	OldDir        string `json:"old_dir"`    // on the node
	OldSHA256     string `json:"old_sha256,omitempty"`
}

const (
	sessionFile = "practice.json"
	lockFile    = "practice.lock"
)

// Home is where practice keeps its nodes and results:
// $XDG_STATE_HOME/etcd-rewind/practice, ~/.local/state/... without it.
func Home() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no place for practice: %w; name one with --home", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "etcd-rewind", "practice"), nil
}

// named is the node as its own files name it.
func (s *session) named() view {
	if s.Inside {
		return realView
	}
	return s.machines()
}

// machines is the node as the machine's processes see it.
func (s *session) machines() view { return view{root: s.Root, ports: s.Ports, socket: s.Socket} }

// seen is the node as this process sees it, from its namespaces or outside. The mounts
// show which: the command that restarts kubelet runs without the caller's environment.
func (s *session) seen() view {
	node, errNode := os.Stat(s.Root.Path("var/lib"))
	is, err := os.Stat(realView.root.Path("var/lib"))
	if errNode == nil && err == nil && os.SameFile(node, is) {
		return realView
	}
	return s.machines()
}

// options lead the engine to the node, in this process.
func (s *session) options() steps.Options {
	v := s.seen()
	o := v.options()
	o.Snapshots, o.KubeletRestart = []string{v.root.Backups()}, v.kubeletRestart()
	if v == realView { // found by themselves
		o.KubeletConfig, o.Manifests, o.CRI, o.Kubeconfig = "", "", "", ""
		o.CgroupMount = s.Root.Path("sys/fs/cgroup")
	}
	return o
}

// intro is what the wizard shows first.
func (s *session) intro() string {
	e := s.exercise()
	return s.text(e.Story + " " + e.Task)
}

// text fills in the node's / in a text of the exercise.
func (s *session) text(t string) string {
	return strings.ReplaceAll(t, "{}", strings.TrimSuffix(string(s.named().root), "/"))
}

// hereNamed is a path of this machine as the node's files name it.
func (s *session) hereNamed(path string) string {
	if !s.Inside {
		return path
	}
	return strings.TrimPrefix(path, string(s.Root))
}

func (s *session) exercise() *Exercise { return find(s.Exercise) }

func (s *session) save() error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := s.Root.Path("." + sessionFile)
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, s.Root.Path(sessionFile))
}

// openSession reads what a practice node's root says of itself.
func openSession(r Root) (*session, error) {
	raw, err := os.ReadFile(r.Path(sessionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a practice node: it has no %s", r, sessionFile)
	}
	if err != nil {
		return nil, err
	}
	s := &session{}
	if err := json.Unmarshal(raw, s); err != nil || s.Format != 1 {
		return nil, fmt.Errorf("%s is not a practice node of this version: %s can't be read", r, sessionFile)
	}
	s.Root = r
	return s, nil
}

// running says whether the process that holds the node lives.
func (s *session) running() bool {
	release, err := node.Lock(s.Root.Path(lockFile))
	if err != nil {
		var held *node.LockedError
		return errors.As(err, &held)
	}
	_ = release()
	return false
}

// sessions are the nodes below home, the newest first.
func sessions(home string) ([]*session, error) {
	entries, err := os.ReadDir(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*session
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if s, err := openSession(Root(filepath.Join(home, e.Name()))); err == nil {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *session) int { return b.Started.Compare(a.Started) })
	return out, nil
}

// current is the session that a command is about: the one of the by-hand
// shell, the one in dir, or the newest that runs.
func current(home, dir string) (*session, error) {
	if dir == "" {
		dir = os.Getenv(rootEnv)
	}
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		return openSession(Root(abs))
	}
	all, err := sessions(home)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.running() {
			return s, nil
		}
	}
	return nil, errors.New("no exercise is running; start one with etcd-rewind practice, list them with etcd-rewind practice list")
}

// Here is the practice node that this process was started for, nil elsewhere:
// in its shell, commands are for that node and never for the machine. intro is
// for the wizard that practice has started.
func Here() (opts *steps.Options, intro string, err error) {
	if os.Getenv(rootEnv) == "" {
		return nil, "", nil
	}
	s, err := here()
	if err != nil {
		return nil, "", err
	}
	if os.Getenv(introEnv) != "" {
		intro = s.intro()
	}
	o := s.options()
	return &o, intro, nil
}

// newRoot is a directory for a try. With dir it is that one, which must be
// empty or not there.
func newRoot(home, dir, exercise string) (Root, error) {
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", err
		}
		entries, err := os.ReadDir(abs)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Root(abs), os.MkdirAll(abs, 0o700)
		case err != nil:
			return "", fmt.Errorf("the directory for practice: %w", err)
		case len(entries) == 0:
			return Root(abs), nil
		}
		if s, err := openSession(Root(abs)); err == nil {
			return "", fmt.Errorf("%s already holds the practice node of %s; remove it with etcd-rewind practice clean --dir", abs, s.Exercise)
		}
		return "", fmt.Errorf("%s is not empty, and not a practice node; name another directory", abs)
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", fmt.Errorf("the directory for practice: %w", err)
	}
	for n := 1; ; n++ {
		name := exercise
		if n > 1 {
			name = fmt.Sprintf("%s-%d", exercise, n)
		}
		err := os.Mkdir(filepath.Join(home, name), 0o700)
		if err == nil {
			abs, err := filepath.Abs(filepath.Join(home, name))
			return Root(abs), err
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("the directory for practice: %w", err)
		}
	}
}

// clean removes nodes that no process holds any more.
func clean(home, dir string) (removed, kept []string, err error) {
	var all []*session
	if dir != "" {
		s, err := openSession(Root(dir))
		if err != nil {
			return nil, nil, err
		}
		all = append(all, s)
	} else if all, err = sessions(home); err != nil {
		return nil, nil, err
	}
	for _, s := range all {
		if s.running() {
			kept = append(kept, string(s.Root))
			continue
		}
		if err := s.remove(); err != nil {
			return removed, kept, err
		}
		removed = append(removed, string(s.Root))
	}
	return removed, kept, nil
}

func (s *session) remove() error {
	if dir := filepath.Dir(s.Socket); strings.HasPrefix(filepath.Base(dir), "etcd-rewind-") && !strings.HasPrefix(dir, string(s.Root)) {
		_ = os.RemoveAll(dir)
	}
	return os.RemoveAll(string(s.Root))
}

// Result is one graded try, as it is kept.
type Result struct {
	ID       string    `json:"id"`
	Exercise string    `json:"exercise"`
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"`
	Points   int       `json:"points"`
	Passed   bool      `json:"passed"`
	Late     bool      `json:"late,omitempty"`
	ByHand   bool      `json:"by_hand"`
	Hints    int       `json:"hints,omitempty"`
}

const resultsFile = "results.jsonl"

func keep(home string, r Result) error {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(home, resultsFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(r)
	if err == nil {
		_, err = f.Write(append(raw, '\n'))
	}
	return errors.Join(err, f.Close())
}

// results are the tries, one each: the first that passed, else the last.
func results(home string) ([]Result, error) {
	raw, err := os.ReadFile(filepath.Join(home, resultsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	byID := map[string]Result{}
	for line := range strings.Lines(string(raw)) {
		var r Result
		if json.Unmarshal([]byte(line), &r) != nil {
			continue // a line that was cut off
		}
		if old, ok := byID[r.ID]; !ok || !old.Passed {
			byID[r.ID] = r
		}
	}
	out := make([]Result, 0, len(byID))
	for _, r := range byID {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Result) int { return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// startSession makes the node of an exercise, broken as it should be. stop
// ends the node; the files stay.
func startSession(ctx context.Context, e *Exercise, c Config, byHand bool) (s *session, stop func(), err error) {
	root := c.Root
	release, err := node.Lock(root.Path(lockFile))
	if err != nil {
		return nil, nil, err
	}
	s = &session{Format: 1, Exercise: e.Name, Root: root, ByHand: byHand, Inside: c.Inside, OldDir: "/var/lib/etcd", Started: time.Now().UTC()}
	s.ID = fmt.Sprintf("%s-%d", e.Name, s.Started.UnixNano())
	if err := s.save(); err != nil { // clean finds it from now on
		return nil, nil, errors.Join(explain(err), release())
	}
	c.Seed, c.prepare = e.seed, func(ctx context.Context, n *Node) error {
		s.Ports, s.Socket = n.Ports, n.Socket
		if n.Seeded != nil {
			s.StartRevision, s.ClusterID = n.Seeded.Revision, n.Seeded.ClusterID
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		if err := root.writeTools(exe); err != nil {
			return err
		}
		return e.prepare(ctx, n, s)
	}
	n, err := Start(ctx, c)
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	s.node = n
	stop = func() {
		n.Close()
		_ = release()
	}
	// The story begins when the incident can be seen.
	wait, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := until(wait, func() error { return e.broken(wait, n) }); err != nil {
		stop()
		return nil, nil, fmt.Errorf("the practice node didn't come up: %w", err)
	}
	s.Started = time.Now().UTC()
	if err := s.save(); err != nil {
		stop()
		return nil, nil, err
	}
	return s, stop, nil
}
