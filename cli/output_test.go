//go:build linux && !nopractice

package cli

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-rewind/drill"
	"etcd-rewind/practice"
	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
)

var update = flag.Bool("update", false, "write docs/output.schema.json")

const schemaFile = "../docs/output.schema.json"

// What is printed with --output json, by type.
type (
	checkLine struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		Node string    `json:"node,omitempty"`
		steps.Verdict
	}
	snapshotLine struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		snapshot.Info
		Node     string          `json:"node,omitempty"`
		Verdicts []steps.Verdict `json:"verdicts,omitempty"`
		NoNode   string          `json:"no_verdict,omitempty"`
	}
	comparisonLine struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		snapshot.Comparison
		Owed []settle.Coming `json:"owed,omitempty"`
	}
	drillLine struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		drill.Report
	}
)

var printed = map[string]reflect.Type{
	"check":      reflect.TypeFor[checkLine](),
	"snapshot":   reflect.TypeFor[snapshotLine](),
	"comparison": reflect.TypeFor[comparisonLine](),
	"drill":      reflect.TypeFor[drillLine](),
	"run":        reflect.TypeFor[listedRun](),
	"version":    reflect.TypeFor[builtFrom](),
	"report":     reflect.TypeFor[writtenTo](),
	// Of backups.
	"backup-step": reflect.TypeFor[print.BackupStepLine](), "backup": reflect.TypeFor[print.BackupLine](), "stored-backup": reflect.TypeFor[print.StoredLine](),
	"backup-status": reflect.TypeFor[print.BackupStatusLine](), "backup-prune": reflect.TypeFor[print.PrunedLine](),
	"backup-timer": reflect.TypeFor[print.BackupTimerLine](), "backup-init": reflect.TypeFor[print.BackupInitLine](),
	// Of a run.
	steps.TypePlan: event, steps.TypeStep: event, steps.TypeAction: event, steps.TypeAsk: event, steps.TypeAnswer: event,
	restore.TypePhase: event, restore.TypeLink: event, restore.TypeLeft: event,
	steps.TypeResult: reflect.TypeFor[resultLine](),
	"debt":           reflect.TypeFor[debtLine](), "unread": reflect.TypeFor[unreadLine](), "settled": reflect.TypeFor[settledLine](),
	// Of practice.
	"task": reflect.TypeFor[practice.TaskLine](), "exercise": reflect.TypeFor[practice.ExerciseLine](),
	"grade": reflect.TypeFor[practice.GradeLine](), "status": reflect.TypeFor[practice.StatusLine](),
	"hint": reflect.TypeFor[practice.HintLine](), "clean": reflect.TypeFor[practice.CleanLine](),
}

var event = reflect.TypeFor[restore.NodeEvent]()

// resultLine is an event whose result is there.
type resultLine struct {
	restore.NodeEvent
	OK            bool    `json:"ok"`
	OutageSeconds float64 `json:"outage_seconds"`
}

// The schema is what other programs rely on: what goes from it, or changes its
// type, breaks them.
func TestTheSchemaIsWhatTheProgramPrints(t *testing.T) {
	s := &schemas{defs: map[string]any{}}
	var kinds []map[string]any
	for _, name := range slices.Sorted(maps.Keys(printed)) {
		line := s.object(printed[name], printed[name] == event)
		line["title"] = name
		line["properties"].(map[string]schema)["type"] = schema{"const": name}
		kinds = append(kinds, line)
	}
	want, err := json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "A line of etcd-rewind --output json. Fields and types may be added.",
		"oneOf":   kinds,
		"$defs":   s.defs,
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/output.schema.json is out of date: go test ./cli -run TestTheSchema -update, and look at what the change breaks (docs/output.md, What stays)")
	}
}

// own is what a plan remembers for its journal: nobody else's to read.
var own = []reflect.Type{reflect.TypeFor[steps.RestoreFacts](), reflect.TypeFor[steps.Reach]()}

type schema = map[string]any

// schemas makes JSON schemas of types; structs with a name are defined once.
type schemas struct{ defs map[string]any }

func (s *schemas) of(t reflect.Type) schema {
	marshals := t.Implements(reflect.TypeFor[json.Marshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]())
	text := t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
	switch {
	case t == reflect.TypeFor[time.Time]():
		return schema{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		return s.of(t.Elem())
	case text:
		return schema{"type": "string"}
	case marshals:
		return schema{"type": "object"}
	}
	switch t.Kind() {
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return schema{"type": "integer"}
	case reflect.Float64:
		return schema{"type": "number"}
	case reflect.Slice, reflect.Array:
		return schema{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		if slices.Contains(own, t) {
			return schema{"type": "object"}
		}
		name := t.String()
		if s.defs[name] == nil {
			s.defs[name] = true // it may be part of itself
			s.defs[name] = s.object(t, false)
		}
		return schema{"$ref": "#/$defs/" + name}
	default:
		return schema{}
	}
}

// object is a struct with the fields of those in it. What is embedded by a
// pointer is there or not as a whole; few says that it isn't.
func (s *schemas) object(t reflect.Type, few bool) schema {
	fields, required := map[string]schema{}, []string{}
	var add func(t reflect.Type, optional bool)
	add = func(t reflect.Type, optional bool) {
		for _, f := range reflect.VisibleFields(t) {
			if len(f.Index) > 1 {
				continue
			}
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous && name == "":
				to := f.Type
				if to.Kind() == reflect.Pointer {
					if few {
						continue
					}
					to = to.Elem()
				}
				add(to, optional || f.Type.Kind() == reflect.Pointer)
			case name == "-" || !f.IsExported():
			default:
				if name == "" {
					name = f.Name
				}
				if _, ok := fields[name]; ok && optional {
					continue
				}
				fields[name] = s.of(f.Type)
				if !optional && !strings.Contains(options, "omit") && !slices.Contains(required, name) {
					required = append(required, name)
				}
			}
		}
	}
	add(t, false)
	slices.Sort(required)
	return schema{"type": "object", "properties": fields, "required": required}
}

// Every command is run on a practice node, and each line that it prints is in
// the schema.
func TestEveryLineOfJSONIsInTheSchema(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		OneOf []map[string]any `json:"oneOf"`
		Defs  map[string]any   `json:"$defs"`
	}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]map[string]any{}
	for _, one := range all.OneOf {
		kinds[one["title"].(string)] = one
	}

	seen := map[string]bool{}
	for line := range strings.Lines(everyCommand(t)) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Errorf("this is no object: %.200s", line)
			continue
		}
		kind, _ := got["type"].(string)
		if kinds[kind] == nil {
			t.Errorf("a type that isn't in the schema: %.200s", line)
			continue
		}
		seen[kind] = true
		for _, wrong := range against(kinds[kind], all.Defs, kind, got) {
			t.Errorf("%s in %.300s", wrong, line)
		}
	}
	for _, kind := range []string{
		"check", "plan", "step", "action", "result", "snapshot", "comparison", "drill", "run", "report", "version",
		"task", "exercise", "grade", "status", "hint", "clean",
	} {
		if !seen[kind] {
			t.Errorf("no %s was printed", kind)
		}
	}
}

// everyCommand is what the commands print on a practice node.
func everyCommand(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	script := `S=$(echo "$R"/opt/backup/*.db)
L="file://$OUT/backups/latest --identity $OUT/identity" # as on a machine without any configuration of backups
for command in version runs check "check $S" "inspect $S" "diff $S" "drill $S" "save $OUT/saved.db" "restore $S --dry-run" \
	"backup init --location file://$OUT/backups --recipient $(cat $OUT/recipient) --identity $OUT/identity --keep last=1 --include pki,manifests" \
	backup "backup --scheduled" "backup list" "backup prune --dry-run" "backup prune" "backup status" "backup enable --print" \
	"check $L" "inspect $L" "diff $L" "restore $L --dry-run" "restore $L --yes" runs "undo --dry-run" "undo --yes" "redo --yes" "practice task" "practice hint" "practice status" \
	"practice list" "practice clean" settle "report --to $OUT/report.tar.gz"; do
	etcd-rewind $command --output json >>"$OUT/lines" 2>>"$OUT/errors" || echo "$command: $?" >>"$OUT/errors"
done
C=$(sed -n 's/.*"type":"backup-init".*"config":"\([^"]*\)".*/\1/p' "$OUT/lines")
for command in "check latest" "diff latest" "restore latest --dry-run"; do
	etcd-rewind $command --backup-config "$C" --identity "$OUT/identity" --output json >>"$OUT/authentic" 2>>"$OUT/errors" || echo "$command with $C: $?" >>"$OUT/errors"
done
cat "$OUT/authentic" >>"$OUT/lines"
etcd-rewind practice grade -o json >>"$OUT/lines" 2>>"$OUT/errors" # with status 1: nothing was solved
etcd-rewind restore "$S.gone" --yes --output json >>"$OUT/lines" 2>>"$OUT/errors" && echo "a file that is gone" >>"$OUT/errors"
exit
`
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(home, "identity"), []byte(id.String()+"\n"), 0o600),
		os.WriteFile(filepath.Join(home, "recipient"), []byte(id.Recipient().String()+"\n"), 0o600),
		os.Mkdir(filepath.Join(home, "backups"), 0o700),
	)
	self, serr := os.Executable()
	if err = errors.Join(err, serr); err != nil {
		t.Fatal(err)
	}
	// The test binary is the program when it is called by its name.
	bin := filepath.Join(home, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "etcd-rewind")); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), filepath.Join(bin, "etcd-rewind"), "practice", "deleted-namespace", "--by-hand")
	c.Env = append(os.Environ(), "HOME="+home, "XDG_STATE_HOME=", "OUT="+home)
	c.Stdin = strings.NewReader(script)
	var told bytes.Buffer
	c.Stdout, c.Stderr = &told, &told
	_ = c.Run() // the grade: nothing was solved
	failed, _ := os.ReadFile(filepath.Join(home, "errors"))
	lines, err := os.ReadFile(filepath.Join(home, "lines"))
	if err != nil || len(failed) > 0 {
		t.Fatalf("%v\n%s\n%s\n%s", err, failed, lines, told.String())
	}
	// What was taken without the key was doubted, and nothing with it.
	authentic, err := os.ReadFile(filepath.Join(home, "authentic"))
	const doubt = "without backup.key nobody knows who made"
	if doubts := strings.Count(string(lines), doubt); err != nil || bytes.Contains(authentic, []byte(doubt)) || doubts < 5 {
		t.Errorf("%d doubts, %v\n%s", doubts, err, authentic)
	}
	return string(lines)
}

// against says what of a value isn't as its schema has it. Fields that the
// schema doesn't know are wrong here; for others they are news.
func against(want, defs map[string]any, at string, got any) (wrong []string) {
	if ref, ok := want["$ref"].(string); ok {
		return against(defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), defs, at, got)
	}
	if c, ok := want["const"]; ok {
		if got != c {
			wrong = append(wrong, fmt.Sprintf("%s is %v, not %v", at, got, c))
		}
		return wrong
	}
	is := map[string]bool{}
	switch v := got.(type) {
	case string:
		is["string"] = true
	case bool:
		is["boolean"] = true
	case float64:
		is["number"] = true
		is["integer"] = v == math.Trunc(v)
	case []any:
		is["array"] = true
		items, _ := want["items"].(map[string]any)
		for i, one := range v {
			wrong = append(wrong, against(items, defs, fmt.Sprintf("%s[%d]", at, i), one)...)
		}
	case map[string]any:
		is["object"] = true
		fields, known := want["properties"].(map[string]any)
		more, _ := want["additionalProperties"].(map[string]any)
		for name, one := range v {
			field, ok := fields[name].(map[string]any)
			switch {
			case ok:
				wrong = append(wrong, against(field, defs, at+"."+name, one)...)
			case more != nil:
				wrong = append(wrong, against(more, defs, at+"."+name, one)...)
			case known:
				wrong = append(wrong, at+"."+name+" isn't in the schema")
			}
		}
		required, _ := want["required"].([]any)
		for _, name := range required {
			if _, ok := v[name.(string)]; !ok {
				wrong = append(wrong, at+"."+name.(string)+" is missing")
			}
		}
	case nil:
		is["array"] = true // an empty list may be null
	}
	if kind, ok := want["type"].(string); ok && !is[kind] {
		wrong = append(wrong, fmt.Sprintf("%s is %v, not a %s", at, got, kind))
	}
	return wrong
}

func TestTheSchemaTestSeesWhatIsWrong(t *testing.T) {
	want := map[string]any{"type": "object", "required": []any{"a"}, "properties": map[string]any{"a": map[string]any{"type": "integer"}}}
	for text, wrong := range map[string]bool{`{"a":1}`: false, `{"a":"x"}`: true, `{}`: true, `{"a":1,"b":2}`: true, `[]`: true, `{"a":1.5}`: true} {
		var got any
		if err := json.NewDecoder(strings.NewReader(text)).Decode(&got); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if found := against(want, nil, "it", got); (len(found) > 0) != wrong {
			t.Errorf("%s: %v", text, found)
		}
	}
}
