package practice

import (
	"encoding/json"
	"io"
	"time"
)

// What the commands print with --output json: one object a line, with its type.
type (
	// TaskLine is what an exercise is about.
	TaskLine struct {
		Type         string `json:"type"` // task
		Exercise     string `json:"exercise"`
		Title        string `json:"title"`
		LimitSeconds int    `json:"limit_seconds"`
		Story        string `json:"story"`
		Task         string `json:"task"`
	}
	// ExerciseLine is an exercise of the list, with what was reached in it.
	ExerciseLine struct {
		Type         string  `json:"type"` // exercise
		Name         string  `json:"name"`
		Title        string  `json:"title"`
		LimitSeconds int     `json:"limit_seconds"`
		Tries        int     `json:"tries"`
		Passed       int     `json:"passed"` // of the tries
		Best         *Result `json:"best,omitempty"`
		Last         *Result `json:"last,omitempty"`
		// Running are the directories of the nodes on which it is tried now.
		Running []string `json:"running,omitempty"`
	}
	// GradeLine is how a try was judged.
	GradeLine struct {
		Type string `json:"type"` // grade
		Grade
	}
	// StatusLine is how the node is, and what is still missing.
	StatusLine struct {
		Type     string `json:"type"` // status
		Running  bool   `json:"running"`
		NodeRoot string `json:"node_root"` // directory
		// Components has the state of each one's newest container, "" without one.
		Components map[string]string `json:"components"`
		Readyz     string            `json:"readyz"`
		DataDir    string            `json:"data_dir,omitempty"` // of the running etcd
		Grade      Grade             `json:"grade"`              // as it would be now
	}
	// HintLine has the hints that were asked for, the newest one last.
	HintLine struct {
		Type     string   `json:"type"` // hint
		Exercise string   `json:"exercise"`
		Hints    []string `json:"hints"`
		More     bool     `json:"more"`
	}
	// CleanLine is what clean did.
	CleanLine struct {
		Type    string   `json:"type"` // clean
		Removed []string `json:"removed,omitempty"`
		Kept    []string `json:"kept,omitempty"` // still running
	}
)

// print writes v as a line of JSON where that was asked for, and says whether it
// was.
func (p *program) print(out io.Writer, v any) (bool, error) {
	if p.output != "json" {
		return false, nil
	}
	return true, json.NewEncoder(out).Encode(v)
}

func seconds(d time.Duration) int { return int(d / time.Second) }
