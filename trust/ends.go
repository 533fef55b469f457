package trust

import "sync"

// Tail keeps the end of what a program says: the last Most bytes. A writer for
// [exec.Cmd.Stderr], safe to read while the program runs.
type Tail struct {
	Most int

	mu  sync.Mutex
	all []byte
}

func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, p[max(0, len(p)-t.Most):]...)
	if over := len(t.all) - t.Most; over > 0 {
		t.all = t.all[:copy(t.all, t.all[over:])]
	}
	return len(p), nil
}

// String is what is kept, not cleaned: see [Text].
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.all)
}

// Head keeps the beginning of what a program says: the first Most bytes. A crash
// says there what it is.
type Head struct {
	Most int

	mu  sync.Mutex
	all []byte
}

func (h *Head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, p[:min(h.Most-len(h.all), len(p))]...)
	return len(p), nil
}

// String is what is kept, not cleaned: see [Text].
func (h *Head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.all)
}
