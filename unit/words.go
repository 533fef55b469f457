package unit

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// quoting is how systemd takes words apart (extract_first_word in
// src/basic/extract-word.c).
type quoting struct {
	escapes bool // C's escapes are read; else a backslash is dropped
	lenient bool // what is no escape stays as it is
	relaxed bool // quotes that don't end are ended
}

var errQuoting = errors.New("quotes or backslashes that systemd can't read")

// word takes the first word off t; ok is false at its end.
func (q quoting) word(t text) (word, rest text, ok bool, err error) {
	i := 0
	for i < len(t) && blank(t[i]) {
		i++
	}
	if i == len(t) {
		return nil, nil, false, nil
	}
	word = text{}
	quote := byte(0)
	for i < len(t) {
		c := t[i]
		switch {
		case c.why != "":
			word = append(word, c)
			i++
		case c.b == '\\':
			if i+1 == len(t) {
				switch {
				case q.lenient && quote == 0:
					return append(word, c), nil, true, nil
				case q.relaxed:
					return word, nil, true, nil
				}
				return nil, nil, false, errQuoting
			}
			piece, n := text{t[i+1]}, 1
			piece[0].from = c.from
			if q.escapes {
				s, used := unescape(t[i+1:])
				switch {
				case used > 0:
					piece, n = t[i:i+1+used].as(s), used
				case q.lenient:
					piece = text{c, t[i+1]}
				default:
					return nil, nil, false, errQuoting
				}
			}
			word = append(word, piece...)
			i += 1 + n
		case quote != 0 && c.b == quote:
			quote = 0
			i++
		case quote == 0 && (c.b == '\'' || c.b == '"'):
			quote = c.b
			i++
		case quote == 0 && blank(c):
			for i < len(t) && blank(t[i]) {
				i++
			}
			return word, t[i:], true, nil
		default:
			word = append(word, c)
			i++
		}
	}
	if quote != 0 && !q.relaxed {
		return nil, nil, false, errQuoting
	}
	return word, nil, true, nil
}

func blank(c char) bool { return c.why == "" && strings.IndexByte(blanks, c.b) >= 0 }

// unescape reads what follows a backslash (cunescape_one in src/basic/escape.c);
// used is 0 for what is no escape.
func unescape(t text) (s string, used int) {
	if i := strings.IndexByte(`abfnrtv\"'s`, t.at(0)); i >= 0 {
		return string("\a\b\f\n\r\t\v\\\"' "[i]), 1
	}
	number := func(from, digits, base int) (uint64, bool) {
		if from+digits > len(t) {
			return 0, false
		}
		d := t[from : from+digits].String()
		if strings.Trim(d, "0123456789abcdefABCDEF") != "" {
			return 0, false
		}
		n, err := strconv.ParseUint(d, base, 32)
		return n, err == nil && n != 0
	}
	switch b := t.at(0); {
	case b == 'x':
		if n, ok := number(1, 2, 16); ok {
			return string([]byte{byte(n)}), 3
		}
	case b == 'u' || b == 'U':
		digits := 4
		if b == 'U' {
			digits = 8
		}
		if n, ok := number(1, digits, 16); ok && n <= utf8.MaxRune {
			return string(rune(n)), 1 + digits
		}
	case b >= '0' && b <= '7':
		if n, ok := number(0, 3, 8); ok && n <= 255 {
			return string([]byte{byte(n)}), 3
		}
	}
	return "", 0
}

// all takes words apart that are in one value.
func (q quoting) all(t text) (words []text, err error) {
	for {
		w, rest, ok, err := q.word(t)
		if err != nil || !ok {
			return words, err
		}
		words, t = append(words, w), rest
	}
}

// variables are an environment.
type variables map[string]text

// argument puts variables into a word of ExecStart (replace_env_argv in
// src/basic/env-util.c): a word that is $NAME becomes the words in it, ${NAME}
// its value, "$$" a dollar.
func (v variables) argument(w text) ([]text, error) {
	if w.at(0) == '$' && w.at(1) != '{' && w.at(1) != '$' {
		value, ok := v[w[1:].String()]
		if !ok {
			return nil, nil
		}
		words, _ := quoting{relaxed: true}.all(value)
		return words, nil
	}
	out, end := text{}, 0
	for i := 0; i < len(w); i++ {
		if len(out) > longestWord {
			return nil, tooLong(w)
		}
		switch {
		case w[i].b != '$' || w[i].why != "":
			out = append(out, w[i])
		case w.at(i+1) == '$':
			out = append(out, w[i:i+2].as("$")...)
			i++
		case w.at(i+1) == '{':
			for end = max(end, i+2); end < len(w) && w[end].b != '}' && w[end].b != ':'; {
				end++
			}
			if end < len(w) && w[end].b == ':' { // a shell's syntax, which stays
				out = append(out, w[i])
				continue
			}
			if end == len(w) {
				return []text{append(out, w[i:]...)}, nil
			}
			out = append(out, v[w[i+2:end].String()]...)
			i = end
		default:
			out = append(out, w[i])
		}
	}
	if len(out) > longestWord {
		return nil, tooLong(w)
	}
	return []text{out}, nil
}
