package unit

import (
	"bytes"
	"regexp"

	"etcd-rewind/trust"
)

// managed are the words by which the programs that write files from elsewhere say
// so in them.
var managed = regexp.MustCompile(`(?i)ansible[_ -]?managed|managed (by|with|using|via) |(generated|created|written|maintained|controlled|rendered|deployed) by |(do not|don't|never) (edit|modify|change|touch)|(puppet|chef|salt(stack)?|cfengine|terraform|kubespray|kubekey|cloud-init)\b|(changes|modifications) (\w+ )*(will|may) be (lost|overwritten)`)

// Managed gives the line in which a file is marked as generated: an edit
// would be reverted. Nil when none does.
func Managed(data []byte) (line string, at int) {
	n := 0
	for l := range bytes.Lines(data) {
		n++
		t := bytes.TrimSpace(l)
		if n > 200 {
			break
		}
		if len(t) > 0 && (t[0] == '#' || t[0] == ';') && managed.Match(t) {
			return trust.Clip(trust.Text(string(bytes.TrimSpace(bytes.TrimLeft(t, "#; ")))), 120), n
		}
	}
	return "", 0
}

// Managed says which of the files with the directories' paths says that a program
// writes it, in which line; "" when none does.
func (e *Etcd) Managed() (line string, at Place) {
	for _, name := range []string{DataDir, WALDir} {
		if f, _, _, ok := e.moves[name].span(); ok {
			if line, n := Managed(f.Data); n > 0 {
				return line, Place{f.Path, n}
			}
		}
	}
	return "", Place{}
}
