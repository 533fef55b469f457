package drill

import (
	"encoding/json"
	"strings"

	"etcd-rewind/trust"
)

// keptOfALog is how much of a program's log is kept, in bytes, from its end.
const keptOfALog = 16 << 10

// lastOf is the line of a program's log that says most of why it ended: its last
// error, else its last line.
func lastOf(log *trust.Tail) string {
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	best, rank := "", -1
	for _, l := range lines {
		if text, r := logLine(l); r >= rank && text != "" {
			best, rank = text, r
		}
	}
	return best
}

// logLine is the message of a line of etcd's log (JSON) or of klog's, and how
// much it says: 3 for what a program dies of, 2 for errors, 1 for warnings.
func logLine(l string) (text string, rank int) {
	l = strings.TrimSpace(l)
	var z struct{ Level, Msg, Error string }
	if strings.HasPrefix(l, "{") && json.Unmarshal([]byte(l), &z) == nil && z.Msg != "" {
		text = z.Msg
		if z.Error != "" {
			text += ": " + z.Error
		}
		return text, map[string]int{"fatal": 3, "panic": 3, "dpanic": 3, "error": 2, "warn": 1}[z.Level]
	}
	for _, p := range []string{"panic: ", "Error: ", "error: ", "fatal error: "} {
		if strings.HasPrefix(l, p) {
			return l, 3
		}
	}
	if len(l) > 5 && strings.ContainsRune("IWEF", rune(l[0])) && l[1] >= '0' && l[1] <= '9' {
		if _, after, ok := strings.Cut(l, "] "); ok {
			return after, map[byte]int{'F': 3, 'E': 2, 'W': 1}[l[0]]
		}
	}
	return l, 0
}
