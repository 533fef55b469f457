package unit

import (
	"path"
	"slices"
	"strings"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// shell reads the little of a shell's language in which programs are started:
// assignments, harmless commands, and one that starts etcd, or a container, at the
// end. What does more is refused.
type shell struct {
	want     string // the program that it is to start
	file     func(name string) (*File, error)
	vars     variables
	exported map[string]bool
	all      bool // "set -a"
	args     []text
	source   string // for people
	depth    int
	dir      string
	inside   bool // of a container: no file can be read
	vanishes bool // the word that is read has a "$@" that stands for nothing: without more there is none
	spent    int  // bytes of words that were made so far, here and in what is included
}

// A piece of a word: what stands in quotes isn't taken apart.
type piece struct {
	text
	quoted bool
}

func (s *shell) refuse(t text, what string) error {
	at := t.place().String()
	if at == "" {
		at = s.source
	}
	return problem.Coded(CodeShell, "start "+s.want+" by ExecStart itself, or with nothing else in the script; then try again", "%s: %s is started through a shell that does more than that: %s", at, s.want, what)
}

// run goes through the commands, and gives the arguments of the one that starts
// something.
func (s *shell) run(t text) ([]text, error) {
	if s.depth > 4 {
		return nil, s.refuse(t, "scripts that start scripts, more than four deep")
	}
	var started []text
	for len(t) > 0 {
		words, rest, err := s.next(t)
		if err != nil {
			return nil, err
		}
		t = rest
		if len(words) == 0 {
			continue
		}
		if started != nil {
			return nil, s.refuse(words[0], "commands follow the one that starts it")
		}
		if started, err = s.command(words); err != nil {
			return nil, err
		}
	}
	return started, nil
}

// harmless are commands that change nothing about the one that follows.
var harmless = []string{"echo", "mkdir", "chown", "chmod", "sleep", "ulimit", "true", ":", "sysctl", "umask", "trap", "logger"}

// command does what one does to the variables, or gives its arguments when it
// starts something.
func (s *shell) command(words []text) ([]text, error) {
	n := 0
	for n < len(words) {
		name, value, ok := words[n].cut('=')
		if !ok || !variableName.MatchString(name.String()) {
			break
		}
		if n++; n < len(words) && !s.assigns(words[n]) { // before a command: its environment
			s.exported[name.String()] = true
		}
		s.assign(name.String(), value)
	}
	words = words[n:]
	if len(words) == 0 {
		return nil, nil
	}
	switch name := words[0].String(); {
	case name == "exec":
		if len(words) > 1 && words[1].at(0) == '-' {
			return nil, s.refuse(words[0], "exec with options")
		}
		if len(words) == 1 {
			return nil, nil
		}
		return words[1:], nil
	case name == "export":
		for _, w := range words[1:] {
			name, value, ok := w.cut('=')
			if !variableName.MatchString(name.String()) {
				return nil, s.refuse(w, "export "+trust.Clip(trust.Text(w.String()), 80))
			}
			if ok {
				s.vars[name.String()] = value
			}
			s.exported[name.String()] = true
		}
		return nil, nil
	case name == "set":
		for i, w := range words[1:] {
			switch o := w.String(); {
			case o == "-a" || o == "+a":
				s.all = o == "-a"
			case o == "-o" || o == "+o":
				if i+2 >= len(words) || words[i+2].String() == "allexport" {
					s.all = o == "-o"
				}
			case len(o) < 2 || strings.Trim(o[1:], "euxvopifalrn") != "":
				return nil, s.refuse(w, "set "+trust.Clip(trust.Text(o), 80))
			case o[0] == '-' && strings.Contains(o, "a"):
				s.all = true
			}
		}
		return nil, nil
	case name == "unset":
		for _, w := range words[1:] {
			delete(s.vars, w.String())
			delete(s.exported, w.String())
		}
		return nil, nil
	case name == "cd":
		if len(words) != 2 || words[1].unknown() != "" || !path.IsAbs(words[1].String()) {
			return nil, s.refuse(words[0], "cd")
		}
		s.dir = path.Clean(words[1].String())
		return nil, nil
	case name == "." || name == "source":
		return nil, s.include(words)
	case slices.Contains(harmless, name):
		return nil, nil
	case engines[path.Base(name)] && len(words) > 1 && slices.Contains([]string{"rm", "stop", "kill", "pull"}, words[1].String()):
		return nil, nil
	case slices.Contains(keywords, name):
		return nil, s.refuse(words[0], name)
	}
	return words, nil
}

var keywords = []string{"if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "function", "select", "time", "!", "{", "}", "[", "[[", "test", "eval", "return", "exit", "local", "declare", "typeset", "readonly", "read", "shift", "alias", "let", "wait"}

func (s *shell) assigns(w text) bool {
	name, _, ok := w.cut('=')
	return ok && variableName.MatchString(name.String())
}

func (s *shell) assign(name string, value text) {
	s.vars[name] = value
	if s.all {
		s.exported[name] = true
	}
}

// include reads ". FILE".
func (s *shell) include(words []text) error {
	if len(words) != 2 || words[1].unknown() != "" || !path.IsAbs(words[1].String()) || s.inside {
		return s.refuse(words[0], "it reads a file that isn't named")
	}
	f, err := s.file(words[1].String())
	if err != nil {
		return unreadable("the file", words[1].String(), err)
	}
	depth, source := s.depth, s.source
	s.depth, s.source = depth+1, f.Path
	started, err := s.run(f.text(0, len(f.Data)))
	s.depth, s.source = depth, source
	if err == nil && started != nil {
		err = s.refuse(started[0], "it starts something")
	}
	return err
}

// environment is what a command is started with.
func (s *shell) environment() variables {
	out := variables{}
	for name := range s.exported {
		if v, ok := s.vars[name]; ok {
			out[name] = v
		}
	}
	return out
}

// next takes the first command off, with variables put in.
func (s *shell) next(t text) (words []text, rest text, err error) {
	var pieces []piece // of the word that is being read
	open := false
	redirect := false
	flush := func() error {
		if !open {
			return nil
		}
		open = false
		if redirect {
			redirect = false
			pieces = nil
			return nil
		}
		if s.spent > mostWords { // A=$A$A, thirty times
			return s.refuse(t, "its variables become too long")
		}
		done, err := s.split(pieces)
		if !s.vanishes || len(done) != 1 || len(done[0]) > 0 {
			words = append(words, done...)
		}
		pieces, s.vanishes = nil, false
		return err
	}
	add := func(x text, quoted bool) {
		open = true
		s.spent += len(x)
		pieces = append(pieces, piece{x, quoted})
	}
	for i := 0; i < len(t); {
		c := t[i]
		if c.why != "" {
			add(t[i:i+1], true)
			i++
			continue
		}
		switch c.b {
		case ' ', '\t', '\r':
			if err := flush(); err != nil {
				return nil, nil, err
			}
			i++
		case '\n', ';':
			if c.b == ';' && t.at(i+1) == ';' {
				return nil, nil, s.refuse(t[i:], ";;")
			}
			err := flush()
			return words, t[i+1:], err
		case '#':
			if open {
				add(t[i:i+1], true)
				i++
				continue
			}
			for i < len(t) && t[i].b != '\n' {
				i++
			}
		case '\\':
			switch {
			case i+1 == len(t):
				i++
			case t[i+1].b == '\n':
				i += 2
			case t[i+1].b == '\r' && t.at(i+2) == '\n':
				return nil, nil, s.refuse(t[i:], "its lines end with a carriage return")
			default:
				x := text{t[i+1]}
				x[0].from = c.from
				add(x, true)
				i += 2
			}
		case '\'':
			end := i + 1
			for end < len(t) && t[end].b != '\'' {
				end++
			}
			if end == len(t) {
				return nil, nil, s.refuse(t[i:], "a quote that doesn't end")
			}
			add(t[i+1:end], true)
			i = end + 1
		case '"':
			i++
			add(nil, true)
			for {
				if i >= len(t) {
					return nil, nil, s.refuse(t, "a quote that doesn't end")
				}
				if t[i].b == '"' && t[i].why == "" {
					i++
					break
				}
				switch {
				case t[i].why != "":
					add(t[i:i+1], true)
					i++
				case t[i].b == '\\' && i+1 < len(t) && strings.IndexByte("$`\"\\", t[i+1].b) >= 0:
					x := text{t[i+1]}
					x[0].from = t[i].from
					add(x, true)
					i += 2
				case t[i].b == '\\' && t.at(i+1) == '\n':
					i += 2
				case t[i].b == '$' || t[i].b == '`':
					n, err := s.expand(t[i:], true, add)
					if err != nil {
						return nil, nil, err
					}
					i += n
				default:
					add(t[i:i+1], true)
					i++
				}
			}
		case '$', '`':
			n, err := s.expand(t[i:], false, add)
			if err != nil {
				return nil, nil, err
			}
			i += n
		case '>', '<':
			// Where output goes changes nothing about etcd's settings.
			word := text{}
			for _, p := range pieces {
				word = append(word, p.text...)
			}
			if strings.Trim(word.String(), "0123456789") == "" {
				pieces, open = nil, false
			}
			if err := flush(); err != nil {
				return nil, nil, err
			}
			if t.at(i+1) == '<' || t.at(i+1) == '(' {
				return nil, nil, s.refuse(t[i:], trust.Clip(t[i:].String(), 3))
			}
			for i++; strings.IndexByte(">&| \t", t.at(i)) >= 0 && i < len(t); i++ {
				if t[i].b == '&' && (t.at(i+1) == '-' || t.at(i+1) >= '0' && t.at(i+1) <= '9') {
					continue
				}
			}
			redirect = true
		case '&', '|', '(', ')', '*', '?', '[', '~', '{', '}', '!':
			if strings.IndexByte("~{}!?*[", c.b) >= 0 && open && c.b != '*' && c.b != '?' && c.b != '[' {
				add(t[i:i+1], true)
				i++
				continue
			}
			return nil, nil, s.refuse(t[i:], trust.Clip(trust.Text(t[i:min(len(t), i+20)].String()), 20))
		default:
			add(t[i:i+1], true)
			i++
		}
	}
	err = flush()
	return words, nil, err
}

// split makes words of pieces: what variables outside of quotes stand for is
// taken apart at blanks.
func (s *shell) split(pieces []piece) ([]text, error) {
	var words []text
	var word text
	open := false
	for _, p := range pieces {
		if p.quoted {
			word, open = append(word, p.text...), true
			continue
		}
		for _, c := range p.text {
			switch {
			case blank(c):
				if open {
					words = append(words, word)
				}
				word, open = nil, false
			case c.why == "" && strings.IndexByte("*?[", c.b) >= 0:
				return nil, s.refuse(p.text, "a pattern that stands for files")
			default:
				word, open = append(word, c), true
			}
		}
	}
	if open {
		if word == nil {
			word = text{}
		}
		words = append(words, word)
	}
	return words, nil
}

// made are variables that systemd or a shell makes when the unit starts.
var made = []string{
	"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET", "MAINPID", "HOSTNAME",
	"PWD", "RANDOM", "SECONDS", "UID", "EUID", "PPID", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CONFIGURATION_DIRECTORY", "CREDENTIALS_DIRECTORY",
}

// expand reads what begins with "$" or "`", and says how long that is.
func (s *shell) expand(t text, quoted bool, add func(text, bool)) (int, error) {
	value := func(name string) text {
		if v, ok := s.vars[name]; ok {
			return v
		}
		if slices.Contains(made, name) {
			return unknown("$" + name)
		}
		return text{}
	}
	switch b := t.at(1); {
	case t[0].b == '`':
		end := 1
		for end < len(t) && t[end].b != '`' {
			end++
		}
		if end == len(t) {
			return 0, s.refuse(t, "a quote that doesn't end")
		}
		add(unknown(t[:end+1].String()), quoted)
		return end + 1, nil
	case b == '(':
		depth, end := 0, 1
		for ; end < len(t); end++ {
			if t[end].b == '(' {
				depth++
			} else if t[end].b == ')' {
				if depth--; depth == 0 {
					break
				}
			}
		}
		if end == len(t) {
			return 0, s.refuse(t, "$( that doesn't end")
		}
		add(unknown(t[:end+1].String()), quoted)
		return end + 1, nil
	case b == '@' || b == '*':
		for i, a := range s.args {
			if i > 0 {
				add(plain(" "), false)
			}
			add(a, true)
		}
		s.vanishes = s.vanishes || len(s.args) == 0
		return 2, nil
	case b >= '0' && b <= '9':
		i := int(b - '1')
		if b == '0' || i >= len(s.args) {
			add(unknown("$"+string(rune(b))), quoted)
		} else {
			add(s.args[i], quoted)
		}
		return 2, nil
	case b == '{':
		end := 2
		for end < len(t) && t[end].b != '}' {
			end++
		}
		if end == len(t) {
			return 0, s.refuse(t, "${ that doesn't end")
		}
		inside := t[2:end]
		name, otherwise, has := inside, text(nil), false
		for i := range inside {
			if inside[i].b == '-' || inside[i].b == ':' && inside.at(i+1) == '-' {
				name, has = inside[:i], true
				otherwise = inside[i+1:]
				if inside[i].b == ':' {
					otherwise = inside[i+2:]
				}
				break
			}
		}
		if !variableName.MatchString(name.String()) || strings.ContainsAny(otherwise.String(), "$`\"'\\") {
			return 0, s.refuse(t, trust.Clip(trust.Text(t[:end+1].String()), 80))
		}
		v := value(name.String())
		if has && len(v) == 0 {
			v = otherwise
		}
		add(v, quoted)
		return end + 1, nil
	case b == '_' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z':
		end := 1
		for end < len(t) && (t[end].b == '_' || t[end].b >= 'a' && t[end].b <= 'z' || t[end].b >= 'A' && t[end].b <= 'Z' || t[end].b >= '0' && t[end].b <= '9') {
			end++
		}
		add(value(t[1:end].String()), quoted)
		return end, nil
	case b == '?' || b == '$' || b == '!' || b == '#' || b == '-':
		add(unknown("$"+string(rune(b))), quoted)
		return 2, nil
	}
	add(t[:1], true)
	return 1, nil
}
