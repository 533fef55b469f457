//go:build !nopractice

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"etcd-rewind/practice"
	"etcd-rewind/steps"
	"etcd-rewind/ui"
)

const practises = true

// practiceWorker serves the processes of a practice node. They are this binary,
// started again.
func practiceWorker() { practice.Worker() }

// builtInEtcd is the environment in which this binary is etcd.
func builtInEtcd() []string { return practice.EtcdEnv() }

// onPracticeNode makes commands in the by-hand shell of practice address its
// node. Flags that are given count all the same.
func (a *app) onPracticeNode() error {
	here, intro, err := practice.Here()
	if here == nil {
		return err
	}
	given := a.session.Options
	here.KubeletConfig = cmp.Or(given.KubeletConfig, here.KubeletConfig)
	here.Manifests = cmp.Or(given.Manifests, here.Manifests)
	here.CRI = cmp.Or(given.CRI, here.CRI)
	here.KubeletRestart = cmp.Or(given.KubeletRestart, here.KubeletRestart)
	here.StateDir, here.Accept = given.StateDir, given.Accept
	here.Identities, here.PassphraseFile = given.Identities, given.PassphraseFile
	a.session.Options, a.intro = *here, intro
	return nil
}

// practiceCommands is left out of the binary for nodes, which it would make
// half as large again: etcd's server, etcdctl and an API server are in it.
func (a *app) practiceCommands() []*cobra.Command {
	c := practice.Command(func(ctx context.Context, opts steps.Options, intro string) error {
		a.session.Options, a.session.Ask = opts, nil // the wizard asks itself
		_, err := ui.RunWizard(ctx, &a.session, ui.Options{
			Version: a.buildVersion(),
			Choices: steps.Choices{KubeletRestart: opts.KubeletRestart},
			Intro:   intro,
			Unlock:  a.session.Unlock,
		})
		return err
	})
	c.Args = func(_ *cobra.Command, args []string) error {
		names, _ := c.ValidArgsFunction(c, nil, "")
		for _, sub := range c.Commands() {
			names = append(names, sub.Name())
		}
		switch {
		case len(args) > 1:
			return fmt.Errorf("practice takes one exercise, not %d", len(args))
		case len(args) == 1 && !slices.Contains(names, args[0]):
			return fmt.Errorf("there is no exercise %q; etcd-rewind practice list names them%s", args[0], didYouMean(args[0], names))
		}
		return nil
	}
	for _, sub := range append(c.Commands(), c) {
		run := sub.RunE
		sub.RunE = func(c *cobra.Command, args []string) error {
			err := run(c, args)
			var not *practice.NotPassedError
			if errors.As(err, &not) {
				return exit(1) // the grade has been printed
			}
			return err
		}
	}
	return []*cobra.Command{c}
}
