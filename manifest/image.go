package manifest

import (
	"path"
	"regexp"
	"strings"
)

var versionTag = regexp.MustCompile(`^v?([0-9]+\.[0-9]+\.[0-9]+)(?:[-_+.].*)?$`)

// ImageVersion reads the version from an image's tag: 3.6.10 from registry.k8s.io/etcd:3.6.10-0, 1.34.4 from
// kube-apiserver:v1.34.4. "" when the tag has none, or there is only a digest.
func ImageVersion(image string) string {
	_, tag := splitImage(image)
	if m := versionTag.FindStringSubmatch(tag); m != nil {
		return m[1]
	}
	return ""
}

func imageName(image string) string {
	name, _ := splitImage(image)
	return path.Base(name)
}

func splitImage(image string) (name, tag string) {
	image, _, _ = strings.Cut(image, "@")
	slash := strings.LastIndexByte(image, '/')
	if colon := strings.LastIndexByte(image, ':'); colon > slash {
		return image[:colon], image[colon+1:]
	}
	return image, ""
}
