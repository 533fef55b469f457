package steps

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/outbox"
	"etcd-rewind/problem"
)

// eventLog keeps the events of a run, so that another process can show them.
// It is no record: the journal is, and losing an event loses nothing. So it is
// written from an outbox, and a disk that takes nothing holds up no run.
type eventLog struct {
	f    *os.File
	torn bool // the last line is cut off: the disk was full
	out  *outbox.Outbox[logged]
}

type logged struct {
	ev   Event
	line []byte
}

// From unwritten events on, of a disk that takes nothing, only the newest news
// of a wait is kept.
const unwritten = 1000

// flushFor is how long the end of a run waits for a disk that takes nothing.
const flushFor = 2 * time.Second

func openEventLog(runDir string) *eventLog {
	f, err := os.OpenFile(filepath.Join(runDir, eventsName), os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil
	}
	l := &eventLog{f: f}
	l.out = outbox.New(l.append, func(waiting []logged, one logged) []logged {
		if n := len(waiting); n >= unwritten && one.ev.Supersedes(waiting[n-1].ev) {
			waiting[n-1] = one
			return waiting
		}
		return append(waiting, one)
	})
	return l
}

// write never waits for the disk.
func (l *eventLog) write(ev Event) {
	if l == nil {
		return
	}
	if line, err := json.Marshal(ev); err == nil {
		l.out.Put(logged{ev, append(line, '\n')})
	}
}

func (l *eventLog) append(one logged) {
	if l.torn {
		one.line = append([]byte{'\n'}, one.line...)
	}
	_, err := l.f.Write(one.line)
	l.torn = err != nil
}

// close writes what is left, if the disk takes it.
func (l *eventLog) close() error {
	if l == nil {
		return nil
	}
	if err := l.out.Close(flushFor); err != nil {
		return err // and the file is left to the write that hangs
	}
	return l.f.Close()
}

// Live returns the run that another process has under way on this node, or nil
// when there is none.
func Live(stateDir string) (*RunInfo, error) {
	release, err := node.Lock(filepath.Join(stateDir, lockName))
	if err == nil {
		return nil, release()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var held *node.LockedError
	if !errors.As(err, &held) {
		return nil, err
	}
	runs, err := Runs(stateDir)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		if r.State == RunUnfinished || r.State == RunUntouched {
			return &r, nil
		}
	}
	return nil, problem.New("", "another etcd-rewind is running: %s", held.Holder)
}

// Follow passes on the events of a run, those so far and those to come, until it
// ends, its process is gone, or ctx is done. It changes nothing. ended says
// that the run came to its end.
func Follow(ctx context.Context, info RunInfo, sink func(Event)) (ended bool, err error) {
	if err := trusted(info.Dir); err != nil {
		return false, err
	}
	f, err := os.Open(filepath.Join(info.Dir, eventsName))
	if err != nil {
		return false, fmt.Errorf("follow the run: %w", err)
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReader(f)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var rest []byte
	for {
		// The lock is looked at before the file: what was written before its
		// holder went is then read too.
		alive := stillLocked(filepath.Dir(info.Dir))
		for {
			part, err := in.ReadBytes('\n')
			rest = append(rest, part...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return false, fmt.Errorf("follow the run: %w", err)
			}
			var ev Event
			if json.Unmarshal(rest, &ev) == nil {
				sink(ev)
				ended = ev.Type == TypeResult
			}
			rest = rest[:0]
		}
		if !alive {
			return ended, nil
		}
		select {
		case <-ctx.Done():
			return ended, ctx.Err()
		case <-tick.C:
		}
	}
}

func stillLocked(stateDir string) bool {
	release, err := node.Lock(filepath.Join(stateDir, lockName))
	if err != nil {
		var held *node.LockedError
		return errors.As(err, &held)
	}
	_ = release()
	return false
}
