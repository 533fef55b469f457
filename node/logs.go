package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// No more than this is read of a log's end.
const maxLogTail = 1 << 20

// LogTail returns the last lines a container has written, oldest first, without
// time stamps and made safe to show in a terminal, and the log file they are
// from. podLogs is the kubelet's directory for them (/var/log/pods). An empty
// uid means the pod of that name that wrote last.
//
// Logs outlive their container, so this works after it is gone. When the newest
// run has written nothing yet, the one before is read. No log at all is an
// error that [errors.Is] fs.ErrNotExist.
func LogTail(podLogs, namespace, name, uid, container string, lines int) ([]string, string, error) {
	dirs, err := podLogDirs(podLogs, namespace, name, uid)
	if err != nil {
		return nil, "", err
	}
	newest := ""
	for _, dir := range dirs {
		for _, file := range runLogs(filepath.Join(dir, container)) {
			got, err := tailFile(file, lines)
			if errors.Is(err, fs.ErrNotExist) {
				continue // kubelet has just removed it
			}
			if err != nil {
				return nil, file, fmt.Errorf("cannot read the log of %s: %w", container, err)
			}
			if len(got) > 0 {
				return got, file, nil
			}
			if newest == "" {
				newest = file
			}
		}
	}
	if newest == "" {
		return nil, "", fmt.Errorf("no log of container %s of pod %s/%s below %s: %w", container, namespace, name, podLogs, fs.ErrNotExist)
	}
	return nil, newest, nil
}

// podLogDirs are the pod's directories, <namespace>_<name>_<uid>, newest first.
func podLogDirs(podLogs, namespace, name, uid string) ([]string, error) {
	prefix := namespace + "_" + name + "_"
	if uid != "" {
		return []string{filepath.Join(podLogs, prefix+uid)}, nil
	}
	entries, err := os.ReadDir(podLogs)
	if err != nil {
		return nil, fmt.Errorf("the pods' logs: %w", err)
	}
	type dir struct {
		path  string
		wrote time.Time
	}
	var dirs []dir
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		d := dir{path: filepath.Join(podLogs, e.Name())}
		logs, _ := filepath.Glob(filepath.Join(d.path, "*", "*.log"))
		for _, l := range logs {
			if st, err := os.Stat(l); err == nil && st.ModTime().After(d.wrote) {
				d.wrote = st.ModTime()
			}
		}
		dirs = append(dirs, d)
	}
	slices.SortStableFunc(dirs, func(a, b dir) int { return b.wrote.Compare(a.wrote) })
	out := make([]string, len(dirs))
	for i, d := range dirs {
		out[i] = d.path
	}
	return out, nil
}

// runLogs are the files <n>.log of a container, the newest run first.
func runLogs(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var runs []int
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".log")); err == nil && strings.HasSuffix(e.Name(), ".log") {
			runs = append(runs, n)
		}
	}
	slices.Sort(runs)
	slices.Reverse(runs)
	var out []string
	for _, n := range runs {
		out = append(out, filepath.Join(dir, strconv.Itoa(n)+".log"))
	}
	return out
}

// tailFile reads from the end, first little, then more when that wasn't enough.
func tailFile(path string, lines int) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	for chunk := int64(64 << 10); ; chunk *= 4 {
		chunk = min(chunk, maxLogTail)
		start := max(0, st.Size()-chunk)
		data, err := io.ReadAll(io.NewSectionReader(f, start, st.Size()-start))
		if err != nil {
			return nil, err
		}
		if start > 0 { // the first line is most likely cut
			_, data, _ = bytes.Cut(data, []byte("\n"))
		}
		got := parseLog(data)
		if len(got) >= lines || start == 0 || chunk == maxLogTail {
			return got[max(0, len(got)-lines):], nil
		}
	}
}

// parseLog takes the text out of log lines as the runtimes write them:
//
//	2016-10-06T00:17:09.669794202Z stdout F a full line
//	2016-10-06T00:17:09.669794203Z stdout P the first part of one
//
// Anything else is kept as it is. The last line may still be in the writing.
func parseLog(data []byte) []string {
	var out []string
	part := map[string]*strings.Builder{} // of each stream
	for line := range strings.SplitSeq(string(data), "\n") {
		if line == "" {
			continue
		}
		stream, text, partial := parseLogLine(line)
		if b := part[stream]; b != nil {
			text = b.String() + text
		}
		if partial {
			b := &strings.Builder{}
			b.WriteString(text)
			part[stream] = b
			continue
		}
		delete(part, stream)
		out = append(out, printable(text))
	}
	for _, stream := range []string{"stdout", "stderr"} {
		if b := part[stream]; b != nil {
			out = append(out, printable(b.String()))
		}
	}
	return out
}

func parseLogLine(line string) (stream, text string, partial bool) {
	stamp, rest, _ := strings.Cut(line, " ")
	stream, rest, _ = strings.Cut(rest, " ")
	tags, rest, ok := strings.Cut(rest, " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err == nil && ok && (stream == "stdout" || stream == "stderr") {
		tag, _, _ := strings.Cut(tags, ":")
		return stream, rest, tag == "P"
	}
	// Docker's own format, behind cri-dockerd.
	var docker struct{ Log, Stream string }
	if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &docker) == nil && docker.Stream != "" {
		text, whole := strings.CutSuffix(docker.Log, "\n")
		return docker.Stream, text, !whole
	}
	return "", line, false
}

// printable drops what would move the cursor or colour the screen.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || (r >= 0x20 && r < 0x7f) || r >= 0xa0 {
			return r
		}
		return -1
	}, escapes.ReplaceAllString(strings.ToValidUTF8(s, "\uFFFD"), ""))
}

// escapes are a terminal's control sequences (ECMA-48): CSI, OSC and the other
// strings, and what is two characters long.
var escapes = regexp.MustCompile(`(?s)\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(\x07|\x1b\\|$)|\x1b.`)
