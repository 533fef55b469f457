package steps

import (
	"fmt"
	"path/filepath"
	"strings"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// encryption reads one value of each kind, provider and key as this node's
// kube-apiserver would: an API server that can't read its Secrets is never
// ready. (Row 24.)
func (k *checks) encryption() Verdict {
	a := k.f.API
	if a == nil {
		if len(k.info.Encryption) == 0 {
			return ok("nothing in the snapshot is encrypted")
		}
		return warn("", "%s, and no manifest of kube-apiserver to compare with", sayEncrypted(k.info.Encryption))
	}
	config, err := k.encryptionConfig()
	if err != nil {
		return wrong("kube-apiserver doesn't start with it: correct the file", "--encryption-provider-config can't be used: %s", trust.Text(err.Error()))
	}
	with := "kube-apiserver, which has no --encryption-provider-config,"
	if config != nil {
		with = filepath.Base(a.EncryptionConfig)
	}
	bad := config.Unreadable(k.info, func(p snapshot.KMSPlugin, rest []byte) error {
		plugin, err := k.plugin(p)
		if err == nil {
			err = plugin.CanDecrypt(k.ctx, rest)
		}
		if err != nil {
			return fmt.Errorf("KMS plugin %s: %w", p.Name, err)
		}
		return nil
	})
	if len(bad) > 0 {
		hint := "restore the key that wrote them to the EncryptionConfiguration, with the same name and secret"
		var parts []string
		for _, u := range bad[:min(len(bad), 4)] {
			how := "encrypted with " + trust.Text(u.With)
			if u.With == "" {
				how = "in plain text"
			}
			parts = append(parts, fmt.Sprintf("%s %s (%d): %s", trust.Text(u.Resource), how, u.Objects, trust.Text(u.Err.Error())))
		}
		if more := len(bad) - len(parts); more > 0 {
			parts = append(parts, fmt.Sprintf("and %d more", more))
		}
		if bad[0].With == "" {
			hint = "add identity: {} as the last provider of these resources"
		}
		if config != nil && len(config.Names()) > 0 {
			hint += "; it has " + strings.Join(trust.Lines(config.Names()), ", ")
		}
		return wrong(hint, "%s can't read %s", with, strings.Join(parts, "; "))
	}
	if len(k.info.Encryption) == 0 {
		return ok("nothing in the snapshot is encrypted")
	}
	return ok("%s; one value of each was decrypted with %s", sayEncrypted(k.info.Encryption), filepath.Base(a.EncryptionConfig))
}

// encryptionConfig is nil without an error when there is none.
func (k *checks) encryptionConfig() (*snapshot.EncryptionConfig, error) {
	if k.f.API.EncryptionConfig == "" {
		return nil, nil
	}
	return snapshot.ReadEncryptionConfig(k.f.API.EncryptionConfig)
}

func (k *checks) plugin(p snapshot.KMSPlugin) (node.KMS, error) {
	kms := node.KMS{APIVersion: p.APIVersion, Socket: p.Socket, Timeout: p.Timeout}
	var err error
	if !strings.HasPrefix(p.Socket, "@") {
		kms.Socket, err = k.f.API.onNode(p.Socket)
	}
	return kms, err
}

// kms asks the plugins what kube-apiserver asks them before it is ready. One
// that is ready has asked them a moment ago.
func (k *checks) kms() Verdict {
	config, err := k.encryptionConfig()
	if err != nil || len(config.KMS()) == 0 {
		return none
	}
	var names, silent []string
	for _, p := range config.KMS() {
		plugin, err := k.plugin(p)
		if err == nil {
			err = plugin.Healthy(k.ctx)
		}
		if err != nil {
			silent = append(silent, fmt.Sprintf("%s at %s: %s", trust.Text(p.Name), trust.Text(p.Socket), trust.Text(err.Error())))
		}
		names = append(names, trust.Text(p.Name))
	}
	const hint = "start the plugin first: kube-apiserver isn't ready without it"
	switch {
	case len(silent) > 0 && k.f.APIReady:
		return warn("kube-apiserver is ready all the same; make sure that it still is after its restart", "a KMS plugin doesn't answer: %s", strings.Join(silent, "; "))
	case len(silent) > 0:
		return wrong(hint, "a KMS plugin doesn't answer: %s", strings.Join(silent, "; "))
	}
	return ok("%s answers", strings.Join(names, ", "))
}

func sayEncrypted(all []snapshot.Encryption) string {
	var parts []string
	for _, e := range all {
		parts = append(parts, trust.Text(strings.Join(e.Resources, ", "))+" with "+trust.Text(e.String()))
	}
	return "encrypted: " + strings.Join(parts, "; ")
}
