package unit

import (
	"bytes"
	"regexp"
	"strings"

	"etcd-rewind/problem"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// variable is an assignment to one.
type variable struct {
	name  string
	value text
}

// environment reads a file as systemd reads an EnvironmentFile=
// (parse_env_file_internal in src/basic/env-file.c): much like a shell, and not
// like one. What has no proper name is ignored.
func (f *File) environment() ([]variable, error) {
	const (
		preKey = iota
		inKey
		preValue
		inValue
		valueEscape
		single
		double
		doubleEscape
		comment
	)
	var (
		all        []variable
		key, value text
		// Where whitespace begins that is dropped when nothing follows, -1 for none.
		valueEnd = -1
		state    = preKey
		escaped  bool // in a comment
		escape   int  // where a backslash is
	)
	push := func() {
		if state == inValue && valueEnd >= 0 {
			value = value[:valueEnd]
		}
		if name := key.trim(blanks).String(); variableName.MatchString(name) {
			all = append(all, variable{name, append(text{}, value...)})
		}
		key, value, valueEnd = nil, nil, -1
	}
	for i := range f.Data {
		c := char{b: f.Data[i], in: f, from: i, to: i + 1}
		newline := strings.IndexByte(newlines, c.b) >= 0
		space := strings.IndexByte(blanks, c.b) >= 0
		switch state {
		case preKey:
			switch {
			case strings.IndexByte(comments, c.b) >= 0:
				state, escaped = comment, false
			case !space:
				state, key = inKey, text{c}
			}
		case inKey:
			switch {
			case newline:
				state, key = preKey, nil
			case c.b == '=':
				state, value, valueEnd = preValue, text{}, -1
			default:
				key = append(key, c)
			}
		case preValue, inValue:
			switch {
			case newline:
				push()
				state = preKey
			case c.b == '\'' && state == preValue:
				state = single
			case c.b == '"' && state == preValue:
				state = double
			case c.b == '\\':
				state, escape, valueEnd = valueEscape, i, -1
			case state == preValue && space:
			default:
				if !space {
					valueEnd = -1
				} else if valueEnd < 0 {
					valueEnd = len(value)
				}
				state, value = inValue, append(value, c)
			}
		case valueEscape:
			if state = inValue; !newline {
				c.from = escape
				value = append(value, c)
			}
		case single:
			if c.b == '\'' {
				state = preValue
			} else {
				value = append(value, c)
			}
		case double:
			switch c.b {
			case '"':
				state = preValue
			case '\\':
				state, escape = doubleEscape, i
			default:
				value = append(value, c)
			}
		case doubleEscape:
			state = double
			switch {
			case strings.IndexByte("\"\\`$", c.b) >= 0:
				c.from = escape
				value = append(value, c)
			case c.b != '\n':
				value = append(value, char{b: '\\', in: f, from: escape, to: i}, c)
			}
		case comment:
			if newline {
				if escaped && !idle(f.Data[i+1:]) {
					return nil, problem.Coded(CodeSyntax, "remove the backslash at the end of the comment",
						"%s: a comment ends with a backslash, and systemd before 254 reads the next line as part of it", f.place(i))
				}
				state = preKey
			}
			escaped = c.b == '\\' && !escaped
		}
	}
	switch state {
	case preValue, inValue, valueEscape, single, double, doubleEscape:
		push()
	}
	return all, nil
}

// idle says whether the first line of data is blank or a comment.
func idle(data []byte) bool {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.Trim(line, blanks)
	return len(line) == 0 || strings.IndexByte(comments, line[0]) >= 0
}
