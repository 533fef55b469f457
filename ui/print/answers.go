package print

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"etcd-rewind/defect"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// QuestionPause is for how long a question takes no answer once it is shown:
// what is typed by then was meant for what was there before.
const QuestionPause = 700 * time.Millisecond

// Answers reads what is typed in answer to the questions of a command.
type Answers struct {
	file *os.File // nil unless it is a terminal
	in   *bufio.Reader
}

// NewAnswers reads answers from in: a terminal, or lines written beforehand.
func NewAnswers(in io.Reader) *Answers {
	a := &Answers{in: bufio.NewReader(in)}
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		a.file = f
	}
	return a
}

// fresh drops what was typed on a terminal before the question could be read.
func (a *Answers) fresh() {
	if a.file == nil {
		return
	}
	time.Sleep(QuestionPause)
	_, _ = a.in.Discard(a.in.Buffered())
	forgetTyped(a.file)
}

// line is the next line without blanks around it; the error is io.EOF at the
// end, with what there is of a last one.
func (a *Answers) line() (string, error) {
	s, err := a.in.ReadString('\n')
	return strings.TrimSpace(s), err
}

// Confirm asks for the node's name; it says no at the end of the input.
func (a *Answers) Confirm(w io.Writer, node string) bool {
	_, _ = fmt.Fprintf(w, "Type the node's name, %s, to start: ", trust.Text(node))
	a.fresh()
	line, _ := a.line()
	return line == node
}

// Ask asks for a line of text; the error is io.EOF at the end of the input. When
// ctx ends first nothing can be asked any more.
func (a *Answers) Ask(ctx context.Context, w io.Writer, question string) (string, error) {
	_, _ = io.WriteString(w, question)
	return defect.Await(ctx, a.line)
}

// AskSecret is Ask for what mustn't be seen on the terminal. What is typed is
// kept nowhere.
func (a *Answers) AskSecret(ctx context.Context, w io.Writer, question string) (string, error) {
	_, _ = io.WriteString(w, question)
	if a.file == nil {
		return defect.Await(ctx, a.line)
	}
	fd := int(a.file.Fd())
	was, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	back := func() { _ = term.Restore(fd, was) }
	defer back()
	defer defect.Terminal(back)()
	secret, err := defect.Await(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	_, _ = io.WriteString(w, "\n")
	return strings.TrimSpace(string(secret)), err
}

// Agree asks whether something is to be done; it is not at the end of the input.
func (a *Answers) Agree(w io.Writer, question string) bool {
	_, _ = fmt.Fprintf(w, "%s [y/N] ", trust.Text(question))
	a.fresh()
	line, _ := a.line()
	return strings.EqualFold(line, "y") || strings.EqualFold(line, "yes")
}

// Asker asks what to do about a trouble that was printed. At the end of the
// input it answers as Unattended does.
func (p *Printer) Asker(in *Answers) restore.Asker {
	return func(t restore.Trouble) steps.Choice { return p.ask(in, t.Failure) }
}

// ask offers the choices; what changes the node is asked for once more.
func (p *Printer) ask(in *Answers, f steps.Failure) steps.Choice {
	say := func(format string, args ...any) { p.out.Put(textMsg(fmt.Sprintf(format, args...))) }
	end := func() steps.Choice {
		say("\n")
		return steps.Unattended(f)
	}
	for {
		say("\n")
		for i, c := range f.Choices {
			tail := ""
			if i == 0 {
				tail = "   (recommended)"
			}
			o := text.ChoiceOf(c, !p.one)
			say("  %s  %s%s\n", o.Key, o.Label, tail)
		}
		say("Your choice: ")
		in.fresh()
		line, err := in.line()
		for _, c := range f.Choices {
			o := text.ChoiceOf(c, !p.one)
			if o.Key != line {
				continue
			}
			if o.Sure == "" {
				return c
			}
			if err != nil {
				break
			}
			say("%s Type yes: ", o.Sure)
			in.fresh()
			var yes string
			if yes, err = in.line(); yes == "yes" {
				return c
			}
			break
		}
		if err != nil {
			return end()
		}
	}
}
