package unit

import (
	"strings"
)

// text is a string of which each byte knows where it was read, so that the value
// that comes out in the end can be changed where it stands.
type text []char

type char struct {
	b    byte
	in   *File // nil for what stands in no file
	from int   // in the file's bytes
	to   int
	why  string // why it isn't known; then it stands for any text
}

// read is text as it stands in a file.
func (f *File) text(from, to int) text {
	t := make(text, 0, to-from)
	for i := from; i < to; i++ {
		t = append(t, char{b: f.Data[i], in: f, from: i, to: i + 1})
	}
	return t
}

// plain is text that stands nowhere.
func plain(s string) text {
	t := make(text, 0, len(s))
	for i := range len(s) {
		t = append(t, char{b: s[i]})
	}
	return t
}

// unknown is text that only the start of the unit makes.
func unknown(why string) text { return text{{b: '?', why: why}} }

// as is another text that stands where t does.
func (t text) as(s string) text {
	if len(t) == 0 {
		return plain(s)
	}
	out := plain(s)
	for i := range out {
		out[i].in, out[i].from, out[i].to = t[0].in, t[0].from, t[len(t)-1].to
	}
	return out
}

func (t text) String() string {
	var b strings.Builder
	for _, c := range t {
		b.WriteByte(c.b)
	}
	return b.String()
}

// unknown says why a part of it isn't known, "" when all of it is.
func (t text) unknown() string {
	for _, c := range t {
		if c.why != "" {
			return c.why
		}
	}
	return ""
}

func (t text) place() Place {
	for _, c := range t {
		if c.in != nil {
			return c.in.place(c.from)
		}
	}
	return Place{}
}

// span is where the whole of a text stands, in one piece of one file.
func (t text) span() (f *File, from, to int, ok bool) {
	for i, c := range t {
		switch {
		case c.in == nil || c.why != "" || f != nil && (c.in != f || c.from < from):
			return nil, 0, 0, false
		case c.from > to && i > 0 && strings.Trim(string(f.Data[to:c.from]), "\"'\\") != "":
			return nil, 0, 0, false
		case i == 0:
			f, from, to = c.in, c.from, c.to
		default:
			to = max(to, c.to)
		}
	}
	return f, from, to, f != nil
}

func (t text) trim(cut string) text {
	for len(t) > 0 && strings.IndexByte(cut, t[0].b) >= 0 {
		t = t[1:]
	}
	for len(t) > 0 && strings.IndexByte(cut, t[len(t)-1].b) >= 0 {
		t = t[:len(t)-1]
	}
	return t
}

func (t text) cut(sep byte) (before, after text, found bool) {
	for i, c := range t {
		if c.b == sep && c.why == "" {
			return t[:i], t[i+1:], true
		}
	}
	return t, nil, false
}

func (t text) at(i int) byte {
	if i < len(t) {
		return t[i].b
	}
	return 0
}
