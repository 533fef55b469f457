package steps

import "fmt"

// allActions are one of each kind, empty.
func allActions() []Action {
	return []Action{
		&Prepare{}, &Save{}, &Stage{}, &WaitRelist{}, &TakeOut{}, &WaitStopping{}, &EndPods{}, &WaitGone{}, &WaitForgotten{},
		&Rename{}, &Swap{}, &SwapBack{}, &Move{}, &MoveBack{}, &SetAside{}, &BringBack{}, &Ready{}, &PutIn{}, &WaitStarted{}, &WaitData{}, &WaitEtcd{}, &WaitAPI{}, &ForgetPods{}, &RestartKubelet{}, &Verify{}, &WaitNodes{},
		&SetKubeadmConfig{}, &SeeKubeadmConfig{}, &Adopt{},
		&StopUnit{}, &WaitUnitStopped{}, &StartUnit{}, &WaitUnitUp{}, &ReplaceFile{}, &RestoreFile{},
	}
}

func newAction(kind string) (Action, error) {
	for _, a := range allActions() {
		if a.Kind() == kind {
			return a, nil
		}
	}
	return nil, fmt.Errorf("the journal has an action %q that this version doesn't support", kind)
}
