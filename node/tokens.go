package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"etcd-rewind/trust"
)

// maxToken is more than a service account's token has, in bytes.
const maxToken = 64 << 10

var podUID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// Token is the token with which a pod of this node asks the API server, as
// kubelet has written it; "" for a pod that has none. Nobody is shown it.
func (k *Kubelet) Token(uid string) (string, error) {
	if !podUID.MatchString(uid) {
		return "", fmt.Errorf("%q is not a pod's UID", trust.Clip(trust.Text(uid), 64))
	}
	// The volume that the API server adds to a pod (plugin/pkg/admission/serviceaccount).
	paths, err := filepath.Glob(filepath.Join(k.podsDir(), uid, "volumes/kubernetes.io~projected/kube-api-access-*/token"))
	if err != nil || len(paths) == 0 {
		return "", err
	}
	f, err := os.Open(paths[0])
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	token, err := io.ReadAll(io.LimitReader(f, maxToken))
	return string(token), err
}

// ReviewToken asks the API server of a kubeconfig whether it takes a token; why
// is what it says when it doesn't. kubelet's own kubeconfig may ask that
// (system:node). The call ends with ctx.
func ReviewToken(ctx context.Context, kubeconfig, token string) (taken bool, why string, err error) {
	var review struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       struct {
			Token string `json:"token"`
		} `json:"spec"`
		Status struct {
			Authenticated bool   `json:"authenticated"`
			Error         string `json:"error"`
		} `json:"status"`
	}
	review.APIVersion, review.Kind, review.Spec.Token = "authentication.k8s.io/v1", "TokenReview", token
	body, err := json.Marshal(review)
	if err != nil {
		return false, "", err
	}
	raw, err := askServer(ctx, kubeconfig, "", "a review of a token", apiRequest{
		method: http.MethodPost, path: []string{"apis/authentication.k8s.io/v1/tokenreviews"}, contentType: "application/json", body: body, most: maxObject,
	})
	if err != nil {
		return false, "", err
	}
	if err := json.Unmarshal(raw, &review); err != nil {
		return false, "", fmt.Errorf("a review of a token: the answer can't be read: %w", err)
	}
	return review.Status.Authenticated, review.Status.Error, nil
}

// Rollouts are the resources whose pods RestartRollout replaces.
var Rollouts = []string{"deployments", "daemonsets", "statefulsets"}

// RestartRollout replaces the pods of a workload as kubectl rollout restart does: by
// an annotation of its template. Kubeconfig and server are as for [ListMeta].
func RestartRollout(ctx context.Context, kubeconfig, server, resource, namespace, name string, at time.Time) error {
	if !slices.Contains(Rollouts, resource) {
		return errors.New(trust.Text(resource) + " have no rollout")
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{"kubectl.kubernetes.io/restartedAt": at.UTC().Format(time.RFC3339)},
	}}}})
	if err != nil {
		return err
	}
	_, err = askServer(ctx, kubeconfig, server, fmt.Sprintf("%s %s/%s", resource, namespace, name), apiRequest{
		method: http.MethodPatch, path: []string{"apis/apps/v1/namespaces", url.PathEscape(namespace), resource, url.PathEscape(name)},
		contentType: string(types.StrategicMergePatchType), body: patch, most: maxObject,
	})
	return err
}
