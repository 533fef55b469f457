package trust

import (
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON is the encoder for whatever may end on a terminal: DEL, C1 and formatting
// characters such as a change of direction, which encoding/json leaves as they
// are, are written as \u escapes. It decodes to the same strings.
func JSON(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(escaping{w})
	enc.SetEscapeHTML(false)
	return enc
}

// escaping escapes in whole JSON texts: outside of strings there is nothing to
// escape in them.
type escaping struct{ w io.Writer }

func (e escaping) Write(p []byte) (int, error) {
	var out []byte
	from := 0
	for i := 0; i < len(p); {
		r, n := rune(p[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(p[i:])
		}
		if r != '\n' && hidden(r) {
			out = append(out, p[from:i]...)
			if a, b := utf16.EncodeRune(r); a != utf8.RuneError {
				out = fmt.Appendf(out, `\u%04x\u%04x`, a, b)
			} else {
				out = fmt.Appendf(out, `\u%04x`, r)
			}
			from = i + n
		}
		i += n
	}
	if from == 0 {
		return e.w.Write(p)
	}
	if _, err := e.w.Write(append(out, p[from:]...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
