package manifest

import (
	"fmt"
	"strings"
)

const diffContext = 3

// Diff shows what changed between two texts, as a unified diff with three lines of context; "" when nothing did. It is for
// reading: carriage returns at the ends of lines are left out.
func Diff(oldName, newName string, before, after []byte) string {
	a, b := splitLines(before), splitLines(after)
	edits := compare(a, b)
	var out strings.Builder
	for i := 0; i < len(edits); {
		if edits[i].op == ' ' {
			i++
			continue
		}
		// A hunk continues until more than twice the context is unchanged.
		first, last := i, i
		for j := i; j < len(edits) && j-last <= 2*diffContext+1; j++ {
			if edits[j].op != ' ' {
				last = j
			}
		}
		from, to := max(first-diffContext, 0), min(last+diffContext+1, len(edits))
		if out.Len() == 0 {
			fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
		}
		writeHunk(&out, edits[from:to])
		i = to
	}
	return out.String()
}

func writeHunk(out *strings.Builder, edits []lineEdit) {
	var removed, added int
	for _, e := range edits {
		if e.op != '+' {
			removed++
		}
		if e.op != '-' {
			added++
		}
	}
	fmt.Fprintf(out, "@@ -%s +%s @@\n", hunkRange(edits[0].oldLine, removed), hunkRange(edits[0].newLine, added))
	for _, e := range edits {
		line, ended := strings.CutSuffix(e.line, "\n")
		fmt.Fprintf(out, "%c%s\n", e.op, strings.TrimSuffix(line, "\r"))
		if !ended {
			out.WriteString("\\ No newline at end of file\n")
		}
	}
}

func hunkRange(line, count int) string {
	switch count {
	case 0:
		return fmt.Sprintf("%d,0", line)
	case 1:
		return fmt.Sprint(line + 1)
	}
	return fmt.Sprintf("%d,%d", line+1, count)
}

// Change is lines that were replaced: Gone of them after the first After, by
// those in Come, which end as they do in the text.
type Change struct {
	After, Gone int
	Come        []string
}

// Changes are the lines that differ between two texts, in their order, as few
// as possible.
func Changes(before, after []byte) []Change {
	var out []Change
	same := true
	for _, e := range compare(splitLines(before), splitLines(after)) {
		if e.op == ' ' {
			same = true
			continue
		}
		if same {
			out = append(out, Change{After: e.oldLine})
			same = false
		}
		c := &out[len(out)-1]
		if e.op == '-' {
			c.Gone++
		} else {
			c.Come = append(c.Come, e.line)
		}
	}
	return out
}

type lineEdit struct {
	op               byte // ' ', '-' or '+'
	line             string
	oldLine, newLine int // lines before it, on each side
}

func splitLines(data []byte) []string {
	lines := strings.SplitAfter(string(data), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// compare gives a shortest list of line edits. What both ends have in common is set aside first, so the table stays small.
func compare(a, b []string) []lineEdit {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	midA, midB := a[head:len(a)-tail], b[head:len(b)-tail]

	var edits []lineEdit
	i, j := 0, 0
	add := func(op byte) {
		e := lineEdit{op: op, oldLine: i, newLine: j}
		if op == '+' {
			e.line = b[j]
		} else {
			e.line = a[i]
		}
		if op != '+' {
			i++
		}
		if op != '-' {
			j++
		}
		edits = append(edits, e)
	}
	for range head {
		add(' ')
	}
	common := commonTable(midA, midB)
	for i < head+len(midA) || j < head+len(midB) {
		x, y := i-head, j-head
		switch {
		case x < len(midA) && y < len(midB) && midA[x] == midB[y]:
			add(' ')
		case y == len(midB) || x < len(midA) && (common == nil || common[x+1][y] >= common[x][y+1]):
			add('-')
		default:
			add('+')
		}
	}
	for range tail {
		add(' ')
	}
	return edits
}

// commonTable holds how many lines a[x:] and b[y:] have in common at most; nil when it would become too large, and then
// all that is old is shown before all that is new.
func commonTable(a, b []string) [][]int32 {
	if (len(a)+1)*(len(b)+1) > 4<<20 {
		return nil
	}
	table := make([][]int32, len(a)+1)
	for x := range table {
		table[x] = make([]int32, len(b)+1)
	}
	for x := len(a) - 1; x >= 0; x-- {
		for y := len(b) - 1; y >= 0; y-- {
			if a[x] == b[y] {
				table[x][y] = table[x+1][y+1] + 1
			} else {
				table[x][y] = max(table[x+1][y], table[x][y+1])
			}
		}
	}
	return table
}
