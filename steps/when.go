package steps

// condition is what a step runs for that doesn't run in any case. Plans and
// journals keep its name.
type condition string

// kubeletIgnores: kubelet doesn't end what has no manifest any more.
const kubeletIgnores condition = "kubelet-ignores"

var conditions = map[condition]struct {
	words string // Step.When
	// by says whether a failure is what the step mends, had whether the run has
	// come to it.
	by  func(*trouble) bool
	had func(*memory) bool
}{
	kubeletIgnores: {
		words: "only if kubelet ignores that a manifest is gone",
		by:    func(t *trouble) bool { return t.ignoring },
		had:   func(m *memory) bool { return m.KubeletRestarted },
	},
}

// only makes a step run only if something comes true.
func (s Step) only(c condition) Step {
	s.If, s.When = c, conditions[c].words
	return s
}

// condition is the step's; journals of before have only its words, and there
// was but one.
func (s *Step) condition() condition {
	if s.If == "" && s.When != "" {
		return kubeletIgnores
	}
	return s.If
}

// always says whether the step has no condition.
func (s *Step) always() bool { return s.condition() == "" }

// ran says whether a run with this memory has come to the step: with a
// condition, that depends.
func (s *Step) ran(m *memory) bool { return s.always() || conditions[s.condition()].had(m) }

// remedy is the step that mends what a wait has failed for and has not been run
// for it yet; nil where there is none. Once the API is back, what such a step takes
// out is in again.
func (r *run) remedy(t *trouble) *Step {
	if t == nil || r.backAndRestored() {
		return nil
	}
	for i := range r.plan.Steps {
		if s := &r.plan.Steps[i]; !s.ran(&r.mem) && conditions[s.condition()].by(t) {
			return s
		}
	}
	return nil
}
