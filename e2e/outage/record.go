//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// record is what one call has measured. Those of all calls are kept in
// docs/outage.json, and the pages are made from them.
type record struct {
	Date       string    `json:"date"`
	What       string    `json:"what"` // anOutage or aRecovery
	On         string    `json:"on"`   // the entry of e2e/matrix
	Nodes      int       `json:"nodes"`
	Node       string    `json:"node"` // what the nodes are
	Kubernetes string    `json:"kubernetes"`
	Containerd string    `json:"containerd"`
	Etcd       string    `json:"etcd"`
	Machine    machine   `json:"machine"`
	Tuned      string    `json:"tuned,omitempty"` // what of the machine's kernel was, by hand
	Note       string    `json:"note,omitempty"`
	Rows       []row     `json:"rows"`
	Goals      []goal    `json:"goals,omitempty"`
	Steps      []seconds `json:"steps,omitempty"`
	Owners     []seconds `json:"owners,omitempty"`
}

const (
	anOutage  = "outage"
	aRecovery = "recovery"
)

// machine is what the figures depend on: a kernel that gives its host free memory
// back, or evicts what nobody uses, makes whatever starts slower.
type machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	Memory   string `json:"memory"`
	Kernel   string `json:"kernel"`
	Settings string `json:"settings,omitempty"`
	Load     string `json:"load,omitempty"`
}

// row is all restores of a way in the same circumstances. Times are in seconds.
type row struct {
	Case     string    `json:"case,omitempty"` // of a recovery
	Way      string    `json:"way"`
	Database string    `json:"database"`
	Runs     int       `json:"runs"`
	Ratio    float64   `json:"ratio,omitempty"` // of the medians; 0 where there is nothing to compare with
	AtWorst  float64   `json:"at_worst,omitempty"`
	Median   float64   `json:"median"`
	Worst    float64   `json:"worst"`
	None     float64   `json:"none,omitempty"`    // of several nodes: while none was seen, in the median
	Differs  float64   `json:"differs,omitempty"` // outage_seconds from what the client saw, by at most
	Each     []float64 `json:"each,omitempty"`
}

// goal is a limit with what was measured.
type goal struct {
	What  string  `json:"what"`
	Have  float64 `json:"have"`
	Limit float64 `json:"limit"`
	// Because says who has most of what exceeds it.
	Because string `json:"because,omitempty"`
}

// seconds is a table of times by what takes them. A time below 0 was not measured.
type seconds struct {
	Title   string   `json:"title"`
	Columns []string `json:"columns"`
	Rows    []taken  `json:"rows"`
}

type taken struct {
	What string    `json:"what"`
	Who  string    `json:"who,omitempty"`
	Took []float64 `json:"took"`
}

// newRecord sums up what was measured.
func newRecord(a asked, all []result, now time.Time) record {
	e := a.on
	r := record{
		Date: now.Format(time.DateOnly), What: anOutage, On: e.Name, Nodes: a.nodes, Node: e.Node,
		Kubernetes: e.Kubernetes, Containerd: e.Containerd, Etcd: e.Etcd,
		Machine: thisMachine(), Tuned: a.tuned,
	}
	if a.recovery {
		r.What = aRecovery
		r.sumRecovery(all)
	} else {
		r.sumOutage(all)
	}
	return r
}

// compares says whether there is a ratio in it: to by hand, or of an undo.
func (r *record) compares() bool {
	return slices.ContainsFunc(r.Rows, func(x row) bool {
		return x.Ratio > 0 && (x.Way == undone || x.Way == rewind.name && x.Case != healthyOne)
	})
}

func (r *record) sumOutage(all []result) {
	sizes := []string{small, large}
	for _, size := range sizes {
		hand := median(outages(all, handName, size))
		for _, name := range wayNames(all) {
			r.add("", name, size, hand, such(all, name, size))
		}
	}
	hand := median(outages(all, handName, small))
	for _, circumstances := range []string{atRandom, inARow, afterAFailure} {
		r.add("", rewind.name, circumstances, hand, such(all, rewind.name, circumstances))
	}
	r.Goals = goals(all, r.Nodes)
	little := where(all, func(x result) bool { return x.way == rewind.name && x.size != large })
	big := such(all, rewind.name, large)
	title := "Where the time goes in etcd-rewind, medians"
	if r.Nodes > 1 {
		title = "How long all nodes take from one phase to the next, medians"
	}
	r.addSteps(title, little, big)
	if r.Nodes == 1 {
		r.addOwners("Who has the outage, means of all runs of etcd-rewind", sizes, partsOf(little), partsOf(big))
		return
	}
	for i, of := range [][]result{little, big} {
		columns, parts := []string{"all together"}, [][][]part{partsOf(of)}
		for n := range r.Nodes {
			columns = append(columns, fmt.Sprintf("cp%d", n+1))
			var own [][]part
			for _, x := range of {
				if n < len(x.each) {
					own = append(own, x.each[n])
				}
			}
			parts = append(parts, own)
		}
		r.addOwners("Who has the outage of "+fmt.Sprint(r.Nodes)+" nodes, "+sizes[i]+" database, means of all runs of etcd-rewind", columns, parts...)
	}
}

const (
	deadOne    = "a dead control plane, from the first command"
	healthyOne = "outage of a healthy one"
)

func (r *record) sumRecovery(all []result) {
	of := func(way string, dead bool, size string) []result {
		return where(such(all, way, size), func(x result) bool { return x.dead == dead })
	}
	limits := map[string]float64{small: 0.25, large: 0.35}
	add := func(what, way, against string, dead bool, size string, limit float64) {
		have, than := of(way, dead, size), median(lengths(of(against, dead, size)))
		r.add(what, way, size, than, have)
		if len(have) == 0 || than == 0 || way == against {
			return
		}
		g := goal{What: way + ", " + what + ", " + size + " database, × " + against, Have: milli(ratio(median(lengths(have)), than)), Limit: limit}
		g.because(partsOf(have))
		r.Goals = append(r.Goals, g)
	}
	for _, size := range []string{small, large} {
		add(deadOne, rewind.name, handName, true, size, limits[size])
		add(deadOne, handName, handName, true, size, 0)
	}
	for _, size := range []string{small, large} {
		add(healthyOne, undone, rewind.name, false, size, 1.5)
		add(healthyOne, rewind.name, rewind.name, false, size, 0)
	}
	for _, part := range []struct {
		title, way string
		dead       bool
	}{{"restore of a dead one", rewind.name, true}, {"restore of a healthy one", rewind.name, false}, {"undo", undone, false}} {
		little, big := of(part.way, part.dead, small), of(part.way, part.dead, large)
		r.addSteps("Where the time goes, "+part.title+", medians", little, big)
		r.addOwners("Who has it, "+part.title+", means", []string{small, large}, partsOf(little), partsOf(big))
	}
}

// add adds the restores of a way, compared with a median.
func (r *record) add(what, way, size string, against time.Duration, of []result) {
	if len(of) == 0 {
		return
	}
	took := lengths(of)
	line := row{Case: what, Way: way, Database: size, Runs: len(of), Median: sec(median(took)), Worst: sec(slices.Max(took))}
	var none []time.Duration
	for _, x := range of {
		line.Each = append(line.Each, sec(x.outage))
		none = append(none, x.none)
		if x.claimed > 0 && !x.dead {
			line.Differs = max(line.Differs, sec((x.outage - x.claimed).Abs()))
		}
	}
	line.None = sec(median(none))
	if against > 0 {
		line.Ratio, line.AtWorst = milli(ratio(median(took), against)), milli(ratio(slices.Max(took), against))
	}
	r.Rows = append(r.Rows, line)
}

func (r *record) addSteps(title string, little, big []result) {
	t := seconds{Title: title, Columns: []string{small, large}}
	for i, of := range [][]result{little, big} {
		for _, p := range phasesOf(of) {
			t.set(p.title, "", i, p.took)
		}
	}
	if len(t.Rows) > 0 {
		r.Steps = append(r.Steps, t)
	}
}

func (r *record) addOwners(title string, columns []string, of ...[][]part) {
	t := seconds{Title: title, Columns: columns}
	for i, runs := range of {
		for _, p := range means(runs) {
			t.set(p.what, p.who, i, p.took)
		}
	}
	if len(t.Rows) > 0 {
		r.Owners = append(r.Owners, t)
	}
}

// set fills in a time; the rows are in the order in which they were first named.
func (t *seconds) set(what, who string, column int, took time.Duration) {
	i := slices.IndexFunc(t.Rows, func(x taken) bool { return x.What == what && x.Who == who })
	if i < 0 {
		i = len(t.Rows)
		t.Rows = append(t.Rows, taken{what, who, slices.Repeat([]float64{-1}, len(t.Columns))})
	}
	t.Rows[i].Took[column] = sec(took)
}

// means are the mean parts of runs; where a part wasn't needed in one, it took none.
func means(runs [][]part) []part {
	var sum []part
	for _, parts := range runs {
		for _, p := range parts {
			i := slices.IndexFunc(sum, func(x part) bool { return x.what == p.what && x.who == p.who })
			if i < 0 {
				i = len(sum)
				sum = append(sum, part{what: p.what, who: p.who})
			}
			sum[i].took += p.took
		}
	}
	for i := range sum {
		sum[i].took /= time.Duration(len(runs))
	}
	return sum
}

// because names who has most of what exceeds a goal.
func (g *goal) because(runs [][]part) {
	if g.Have <= g.Limit || len(runs) == 0 {
		return
	}
	parts := means(runs)
	var by []string
	for _, who := range owning {
		var sum time.Duration
		for _, p := range parts {
			if p.who == who {
				sum += p.took
			}
		}
		if sum >= 50*time.Millisecond {
			by = append(by, fmt.Sprintf("%s %.1f s", who, sum.Seconds()))
		}
	}
	longest := slices.MaxFunc(parts, func(a, b part) int { return int(a.took - b.took) })
	g.Because = fmt.Sprintf("%s; the longest: %s %s, %.1f s", strings.Join(by, ", "), longest.who, longest.what, longest.took.Seconds())
}

func goals(all []result, nodes int) []goal {
	by := median(outages(all, handName, small))
	var out []goal
	add := func(what string, have, against time.Duration, limit float64, of []result) {
		if have > 0 && against > 0 {
			g := goal{What: what, Have: milli(ratio(have, against)), Limit: limit}
			g.because(partsOf(of))
			out = append(out, g)
		}
	}
	at := func(size string) []result { return such(all, rewind.name, size) }
	if nodes == 1 { // nobody has set any for several
		add("median, × by hand", median(lengths(at(small))), by, 0.10, at(small))
		for _, circumstances := range []string{atRandom, inARow, afterAFailure} {
			if of := at(circumstances); len(of) > 0 {
				add(fmt.Sprintf("worst of %d (%s), × by hand", len(of), circumstances), slices.Max(lengths(of)), by, 0.18, of)
			}
		}
		if big := at(large); len(big) > 0 {
			took := median(lengths(big))
			add("median with 2 GB, × by hand with 2 GB", took, median(outages(all, handName, large)), 0.10, big)
			more := opening(big) - opening(at(small))
			add("the same without etcd's own time to open 2 GB, × by hand with a small one", took-more, by, 0.10, big)
		}
	}
	var off time.Duration
	for _, x := range all {
		if x.way == rewind.name && x.claimed > 0 {
			off = max(off, (x.outage - x.claimed).Abs())
		}
	}
	if off > 0 {
		out = append(out, goal{What: "outage_seconds differs from what the client saw by at most, in s", Have: sec(off), Limit: 0.3})
	}
	return out
}

// opening is how long etcd's start takes in the median.
func opening(of []result) time.Duration {
	for _, p := range phasesOf(of) {
		if p.title == "Start etcd" {
			return p.took
		}
	}
	return 0
}

// such are the results of a way with a database.
func such(all []result, way, size string) []result {
	return where(all, func(x result) bool { return x.way == way && x.size == size })
}

func where(all []result, is func(result) bool) []result {
	return slices.DeleteFunc(slices.Clone(all), func(x result) bool { return !is(x) })
}

func lengths(of []result) (took []time.Duration) {
	for _, x := range of {
		took = append(took, x.outage)
	}
	return took
}

func outages(all []result, way, size string) []time.Duration { return lengths(such(all, way, size)) }

func wayNames(all []result) (names []string) {
	for _, w := range ways {
		if slices.ContainsFunc(all, func(x result) bool { return x.way == w.name }) {
			names = append(names, w.name)
		}
	}
	return names
}

// partsOf are the parts of those whose owners are known.
func partsOf(of []result) (runs [][]part) {
	for _, x := range of {
		if len(x.parts) > 0 {
			runs = append(runs, x.parts)
		}
	}
	return runs
}

// phasesOf are the medians of their phases.
func phasesOf(of []result) []phase {
	var order []string
	took := map[string][]time.Duration{}
	for _, r := range of {
		for _, p := range r.phases {
			if _, ok := took[p.title]; !ok {
				order = append(order, p.title)
			}
			took[p.title] = append(took[p.title], p.took)
		}
	}
	var out []phase
	for _, title := range order {
		out = append(out, phase{title, median(took[title])})
	}
	return out
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	if len(s) == 0 {
		return 0
	}
	return s[len(s)/2]
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func sec(d time.Duration) float64 { return milli(d.Seconds()) }

func milli(x float64) float64 { return math.Round(x*1000) / 1000 }

func thisMachine() machine {
	read := func(path, what string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return what + ": not there"
		}
		return what + ": " + strings.TrimSpace(string(data))
	}
	sh := func(script string) string {
		out, _ := exec.Command("sh", "-c", script).Output()
		return strings.TrimSpace(string(out))
	}
	return machine{
		CPU: sh("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1"), Cores: runtime.NumCPU(),
		Memory: sh("awk '/^MemTotal/ {printf \"%.0f GB\", $2 / 1e6}' /proc/meminfo"), Kernel: sh("uname -r"),
		Settings: strings.Join([]string{
			read("/sys/module/page_reporting/parameters/min_free_ms", "free memory goes to the host after, in ms (page_reporting, 0 is at once)"),
			read("/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds", "DAMON's threads that evict what nobody uses"),
			read("/sys/kernel/mm/transparent_hugepage/enabled", "huge pages"),
		}, "; "),
	}
}

func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(data))[:3], " ")
}

const keptIn = "outage.json"

// records are those that are kept in a directory, in the order of their dates.
func records(dir string) ([]record, error) {
	data, err := os.ReadFile(filepath.Join(dir, keptIn))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []record
	decode := json.NewDecoder(bytes.NewReader(data))
	decode.DisallowUnknownFields()
	if err := decode.Decode(&all); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, keptIn), err)
	}
	slices.SortStableFunc(all, func(a, b record) int { return strings.Compare(a.Date, b.Date) })
	return all, nil
}

// keep adds a record to those in a directory.
func keep(dir string, r record) error {
	all, err := records(dir)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(append(all, r), "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, keptIn), append(data, '\n'), 0o644)
}
