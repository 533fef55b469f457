package trust

import (
	"fmt"
	"strings"
	"unicode"
)

// Raw is text for a shell that Shell made, or that the person at the terminal
// typed as a command: Shell takes it as it is.
type Raw string

// Shell makes the text of a command: for people to read and to paste, never run
// by this program. The format is the program's own words, with %s, %d and %.Nf.
// Each string becomes one word (Quote) and each []string as many; a Raw and a
// number are taken as they are.
//
// All command text is made here; TestCommandsAreMadeInOnePlace holds it.
func Shell(format string, args ...any) string {
	words := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case string:
			words[i] = Quote(a)
		case []string:
			var all []string
			for _, s := range a {
				all = append(all, Quote(s))
			}
			words[i] = strings.Join(all, " ")
		case Raw, int, int64, uint64, float64:
			words[i] = a
		default:
			words[i] = Quote(fmt.Sprint(a))
		}
	}
	return fmt.Sprintf(format, words...)
}

// longestComment is in bytes.
const longestComment = 200

// Comment is a comment for a shell. Whatever is in the text, it stays on its
// line.
func Comment(s string) string { return "# " + Clip(Text(s), longestComment) }

// longestName is in bytes; a host's name has at most 253.
const longestName = 253

// Name says whether s may be the name of a node or of an etcd member: 1 to 253
// bytes of letters, digits and -._:@ and no - at its beginning. kubeadm names
// members after nodes, and those are DNS names. Names that come from outside
// (a snapshot, a ticket, an agent, etcd.yaml) are checked where they enter.
func Name(s string) error {
	bad := func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && r != ':' && r != '@' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}
	if s == "" || len(s) > longestName || s[0] == '-' || strings.ContainsFunc(s, bad) {
		return fmt.Errorf("%q is not the name of a node or a member", Clip(Text(s), 80))
	}
	return nil
}
