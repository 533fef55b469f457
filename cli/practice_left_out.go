//go:build nopractice

package cli

import "github.com/spf13/cobra"

const practises = false

func practiceWorker() {}

func builtInEtcd() []string { return nil }

func (a *app) onPracticeNode() error { return nil }

func (a *app) practiceCommands() []*cobra.Command { return nil }
