package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"testing"
)

// floorsOfSteps are its files, the highest first.
const floorsOfSteps = `
	actions actions_units session check check_unit resume redo undo facts_units plan_restore home texts process_unit actions_replace actions_adopt
	actions_files actions_relist actions_save bundle check_api check_auth check_backups check_cluster facts_cluster actions_kubeadm backups
	check_disk check_encryption check_node check_snapshot check_place disks swap follow older shell runs plan_undo renew check_etcd etcds source
	process actions_ready patience report process_pod cause actions_waits engine fleet vet plan say snapshot layout target verdict place when
	action ages journal choices roles event facts pace deadline world
`

// mostUpwards is how many pairs of files point from the lower to the higher, with
// a few to spare. It only goes down: put what two files share into the lower one.
const mostUpwards = 78

func TestFilesOfStepsPointDownwards(t *testing.T) {
	floor := map[string]int{}
	for i, name := range strings.Fields(floorsOfSteps) {
		floor[name+".go"] = i + 1
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for name := range floor {
		f, err := parser.ParseFile(fset, filepath.Join("steps", name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	uses := map[*ast.Ident]types.Object{}
	// What other packages declare isn't asked for, so there are errors.
	pkg, _ := (&types.Config{Importer: noImports{}, Error: func(error) {}}).Check("steps", fset, files, &types.Info{Uses: uses})
	file := func(p token.Pos) string { return filepath.Base(fset.Position(p).Filename) }
	up := map[string][]string{}
	for id, o := range uses {
		f, method := o.(*types.Func)
		method = method && f.Signature().Recv() != nil && !types.IsInterface(f.Signature().Recv().Type())
		if o.Pkg() != pkg || o.Parent() != pkg.Scope() && !method {
			continue
		}
		if from, to := file(id.Pos()), file(o.Pos()); floor[from] > floor[to] {
			pair := fmt.Sprintf("%s → %s", from, to)
			up[pair] = append(up[pair], o.Name())
		}
	}
	if len(up) == 0 || len(up) > mostUpwards {
		t.Errorf("%d pairs of files point upwards, %d may:", len(up), mostUpwards)
		for pair, names := range up {
			t.Errorf("%s: %s", pair, strings.Join(names, " "))
		}
	}
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }
