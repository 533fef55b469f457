package manifest

import (
	"bytes"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

var podDecoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		panic(err)
	}
	// Not strict, as in kubelet: fields it doesn't know are passed over.
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
}()

// decodePod reads a manifest the way kubelet does (tryDecodeSinglePod in pkg/kubelet/config/common.go): what begins with
// '{' is JSON, all else YAML, of which only the first document counts.
func decodePod(data []byte) (*corev1.Pod, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, problem.Coded(CodeEmpty, "kubelet ignores it; editors leave such files behind", "the file is empty")
	}
	asJSON, err := toJSON(data)
	if err != nil {
		return nil, problem.Coded(CodeNotYAML, "kubelet ignores it", "not valid YAML: %w", err)
	}
	obj, _, err := podDecoder.Decode(asJSON, nil, nil)
	if err != nil {
		return nil, problem.Coded(CodeNotAPod, "kubelet ignores it", "not a Pod kubelet can read: %w", err)
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, problem.Coded(CodeNotAPod, "kubelet runs nothing but Pods from this directory, one in each file",
			"kind is %s, not Pod", obj.GetObjectKind().GroupVersionKind().Kind)
	}
	return pod, nil
}

// toJSON turns YAML into JSON as kubelet does, if that doesn't make it far larger.
func toJSON(data []byte) ([]byte, error) {
	if err := trust.YAML(data); err != nil {
		return nil, err
	}
	return utilyaml.ToJSON(data)
}

// validate holds those of kubelet's rules (ValidatePodCreate) that hand-edited manifests break. It must never refuse what
// kubelet accepts.
func validate(pod *corev1.Pod) error {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }

	if pod.Name == "" {
		fault("metadata.name is missing")
	} else if msgs := validation.IsDNS1123Subdomain(pod.Name + "-x"); msgs != nil {
		// Kubelet looks at the name after it has appended "-" and the node's name.
		fault("metadata.name %q: %s", pod.Name, msgs[0])
	}
	if pod.Namespace != "" {
		if msgs := validation.IsDNS1123Label(pod.Namespace); msgs != nil {
			fault("metadata.namespace %q: %s", pod.Namespace, msgs[0])
		}
	}

	volumes := map[string]bool{}
	for i, v := range pod.Spec.Volumes {
		switch {
		case v.Name == "":
			fault("spec.volumes[%d].name is missing", i)
		case volumes[v.Name]:
			fault("two volumes are named %q", v.Name)
		}
		volumes[v.Name] = true
		if v.HostPath == nil {
			continue
		}
		if v.HostPath.Path == "" {
			fault("volume %q: hostPath.path is missing", v.Name)
		}
		for _, part := range strings.Split(v.HostPath.Path, "/") {
			if part == ".." {
				fault("volume %q: hostPath.path %q must not contain '..'", v.Name, v.HostPath.Path)
				break
			}
		}
		if t := v.HostPath.Type; t != nil && !knownHostPathTypes[*t] {
			fault("volume %q: hostPath.type %q does not exist", v.Name, *t)
		}
	}

	if len(pod.Spec.Containers) == 0 {
		fault("spec.containers is empty")
	}
	names := map[string]bool{}
	for i, c := range pod.Spec.Containers {
		switch {
		case c.Name == "":
			fault("spec.containers[%d].name is missing", i)
		case names[c.Name]:
			fault("two containers are named %q", c.Name)
		}
		names[c.Name] = true
		if msgs := validation.IsDNS1123Label(c.Name); c.Name != "" && msgs != nil {
			fault("container name %q: %s", c.Name, msgs[0])
		}
		if c.Image == "" {
			fault("container %q: image is missing", c.Name)
		}
		mounts := map[string]bool{}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				fault("container %q: volumeMounts names the volume %q, which does not exist", c.Name, m.Name)
			}
			switch {
			case m.MountPath == "":
				fault("container %q: a mountPath is missing", c.Name)
			case mounts[m.MountPath]:
				fault("container %q: the mountPath %s is given twice", c.Name, m.MountPath)
			}
			mounts[m.MountPath] = true
		}
	}
	if faults == nil {
		return nil
	}
	return problem.Coded(CodeInvalid, "kubelet refuses the pod until this is fixed", "not a valid Pod: %s", strings.Join(faults, "; "))
}

var knownHostPathTypes = map[corev1.HostPathType]bool{
	corev1.HostPathUnset:             true,
	corev1.HostPathDirectoryOrCreate: true,
	corev1.HostPathDirectory:         true,
	corev1.HostPathFileOrCreate:      true,
	corev1.HostPathFile:              true,
	corev1.HostPathSocket:            true,
	corev1.HostPathCharDev:           true,
	corev1.HostPathBlockDev:          true,
}
