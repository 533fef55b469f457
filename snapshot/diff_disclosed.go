package snapshot

import (
	"regexp"
	"strings"
	"sync"
)

// disclosure is what is shown of a field that differs: of one with fields or
// elements which of those it is, of a leaf with a pattern the value too, and of
// any other leaf only that it differs. Names of fields are the API's; keys of
// maps and elements of lists are people's, and may be secret as well.
type disclosure struct {
	fields  map[string]*disclosure
	each    *disclosure    // the elements of a list of containers or ports
	pattern *regexp.Regexp // of the values that are shown; nil: none is
}

// allows says whether a value is shown. Numbers and truth values are where
// strings are.
func (t *disclosure) allows(v any) bool {
	switch v := v.(type) {
	case nil, bool, int64, int32, int, float64:
		return t.pattern != nil
	case string:
		return t.pattern != nil && len(v) <= 253 && t.pattern.MatchString(v)
	}
	return false
}

// What the values of fields look like. A field holds what the API server lets
// through; a look at it costs nothing.
var (
	word      = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._/]*[A-Za-z0-9])?$`) // of an enumeration, or a name
	quantity  = regexp.MustCompile(`^[0-9.]+([numkKMGTPE]i?|[eE][0-9]+)?%?$`)
	imageName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9._/]|:[0-9]+/)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha(256|512):[0-9a-f]+)?$`)
	moment    = regexp.MustCompile(`^[0-9TZ:.+-]+$`)
	address   = regexp.MustCompile(`^(None|[0-9a-fA-F.:]+(/[0-9]+)?)$`)
	number    = regexp.MustCompile(`^[0-9]{1,19}$`) // that a controller keeps in an annotation
	schedule  = regexp.MustCompile(`^(@[a-z]+|[-0-9A-Z*/,? ]+)$`)
)

func (t *disclosure) at(path string) *disclosure {
	for name := range strings.SplitSeq(path, ".") {
		name, list := strings.CutSuffix(name, "[]")
		if t.fields == nil {
			t.fields = map[string]*disclosure{}
		}
		if t.fields[name] == nil {
			t.fields[name] = &disclosure{}
		}
		t = t.fields[name]
		if list {
			if t.each == nil {
				t.each = &disclosure{}
			}
			t = t.each
		}
	}
	return t
}

// values shows values that look like that, of the fields named below path.
func (t *disclosure) values(values *regexp.Regexp, path, names string) {
	for name := range strings.FieldsSeq(names) {
		t.at(path + name).pattern = values
	}
}

// names shows the names of those fields.
func (t *disclosure) names(path, names string) { t.values(nil, path, names) }

// disclosed is the allow-list: for each kind the full paths of the fields that
// are shown. "" is for all other kinds. Of Secrets nothing is.
var disclosed = sync.OnceValue(func() map[string]*disclosure {
	all := map[string]*disclosure{}
	kind := func(name string) *disclosure {
		t := &disclosure{}
		t.names("metadata.", "labels annotations ownerReferences finalizers")
		t.values(moment, "metadata.", "deletionTimestamp")
		all[name] = t
		return t
	}
	pod := func(t *disclosure, path string) {
		t.values(word, path, `nodeName serviceAccountName restartPolicy hostNetwork hostPID hostIPC shareProcessNamespace
			priorityClassName priority preemptionPolicy schedulerName dnsPolicy runtimeClassName enableServiceLinks
			automountServiceAccountToken terminationGracePeriodSeconds activeDeadlineSeconds`)
		t.names(path, `serviceAccount nodeSelector affinity tolerations volumes imagePullSecrets securityContext hostname subdomain
			topologySpreadConstraints hostAliases dnsConfig readinessGates schedulingGates overhead os`)
		for _, list := range []string{"containers[].", "initContainers[].", "ephemeralContainers[]."} {
			t.values(imageName, path+list, "image")
			t.values(word, path+list, "imagePullPolicy restartPolicy stdin tty")
			for _, kind := range []string{"resources.limits", "resources.requests"} {
				// The key has dots in no name but those of extended resources, which aren't shown.
				t.values(quantity, path+list+kind+".", "cpu memory ephemeral-storage")
			}
			t.names(path+list, `command args env envFrom ports volumeMounts volumeDevices livenessProbe readinessProbe startupProbe
				lifecycle securityContext workingDir`)
		}
	}
	template := func(t *disclosure, path string) {
		t.names(path+"metadata.", "labels annotations")
		pod(t, path+"spec.")
	}
	job := func(t *disclosure, path string) {
		t.values(word, path, "parallelism completions backoffLimit suspend ttlSecondsAfterFinished activeDeadlineSeconds completionMode")
		t.names(path, "selector podFailurePolicy")
		template(t, path+"template.")
	}

	all[""] = &disclosure{}
	all[""].names("", "spec data")
	all[""].names("metadata.", "labels annotations ownerReferences finalizers")

	for _, k := range []string{"apps Deployment", "apps ReplicaSet", "apps StatefulSet", "apps DaemonSet", "ReplicationController"} {
		t := kind(k)
		t.values(word, "spec.", "replicas paused minReadySeconds revisionHistoryLimit progressDeadlineSeconds podManagementPolicy serviceName")
		t.names("spec.", "selector volumeClaimTemplates persistentVolumeClaimRetentionPolicy")
		for _, s := range []string{"spec.strategy.", "spec.updateStrategy."} {
			t.values(word, s, "type")
			t.values(quantity, s+"rollingUpdate.", "maxSurge maxUnavailable partition")
		}
		template(t, "spec.template.")
		for _, n := range []string{"desired-replicas", "max-replicas", "revision"} {
			t.at("metadata.annotations").annotation("deployment.kubernetes.io/" + n)
		}
	}
	pod(kind("Pod"), "spec.")
	job(kind("batch Job"), "spec.")
	t := kind("batch CronJob")
	t.values(schedule, "spec.", "schedule")
	t.values(word, "spec.", "timeZone suspend concurrencyPolicy successfulJobsHistoryLimit failedJobsHistoryLimit startingDeadlineSeconds")
	job(t, "spec.jobTemplate.spec.")

	t = kind("Service")
	t.values(word, "spec.", "type externalTrafficPolicy internalTrafficPolicy sessionAffinity ipFamilyPolicy healthCheckNodePort")
	t.values(address, "spec.", "clusterIP")
	t.values(word, "spec.ports[].", "port targetPort nodePort protocol")
	t.names("spec.", "selector clusterIPs ipFamilies externalIPs externalName loadBalancerIP loadBalancerSourceRanges")
	t = kind("Node")
	t.values(word, "spec.", "unschedulable")
	t.values(address, "spec.", "podCIDR")
	t.names("spec.", "taints podCIDRs providerID")
	kind("Namespace").names("spec.", "finalizers")
	t = kind("PersistentVolumeClaim")
	t.values(word, "spec.", "storageClassName volumeName volumeMode")
	t.values(quantity, "spec.resources.requests.", "storage")
	t.names("spec.", "accessModes selector dataSource dataSourceRef")
	t = kind("PersistentVolume")
	t.values(word, "spec.", "storageClassName persistentVolumeReclaimPolicy volumeMode")
	t.values(word, "spec.claimRef.", "namespace name")
	t.values(quantity, "spec.capacity.", "storage")
	t.names("spec.", "accessModes nodeAffinity mountOptions")
	t = kind("ServiceAccount")
	t.values(word, "", "automountServiceAccountToken")
	t.names("", "secrets imagePullSecrets")
	t = kind("ConfigMap")
	t.values(word, "", "immutable")
	t.names("", "data binaryData")
	kind("ResourceQuota").names("spec.", "hard scopes")
	kind("LimitRange").names("spec.", "limits")

	t = kind("autoscaling HorizontalPodAutoscaler")
	t.values(word, "spec.", "minReplicas maxReplicas targetCPUUtilizationPercentage")
	t.values(word, "spec.scaleTargetRef.", "kind name")
	t.names("spec.", "metrics behavior")
	t = kind("policy PodDisruptionBudget")
	t.values(quantity, "spec.", "minAvailable maxUnavailable")
	t.values(word, "spec.", "unhealthyPodEvictionPolicy")
	t.names("spec.", "selector")
	t = kind("scheduling.k8s.io PriorityClass")
	t.values(word, "", "value globalDefault preemptionPolicy")
	t = kind("networking.k8s.io Ingress")
	t.values(word, "spec.", "ingressClassName")
	t.names("spec.", "rules tls defaultBackend")
	kind("networking.k8s.io NetworkPolicy").names("spec.", "podSelector ingress egress policyTypes")
	kind("networking.k8s.io IngressClass").values(word, "spec.", "controller")
	t = kind("storage.k8s.io StorageClass")
	t.values(word, "", "provisioner reclaimPolicy volumeBindingMode allowVolumeExpansion")
	t.names("", "parameters mountOptions allowedTopologies")
	for _, k := range []string{"Role", "ClusterRole"} {
		kind("rbac.authorization.k8s.io "+k).names("", "rules aggregationRule")
	}
	for _, k := range []string{"RoleBinding", "ClusterRoleBinding"} {
		t := kind("rbac.authorization.k8s.io " + k)
		t.values(word, "roleRef.", "kind name")
		t.names("", "subjects")
	}
	for _, k := range []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"} {
		kind("admissionregistration.k8s.io "+k).names("", "webhooks")
	}
	return all
})

// annotation shows the number that a controller of the cluster keeps in an
// annotation.
func (t *disclosure) annotation(key string) {
	if t.fields == nil {
		t.fields = map[string]*disclosure{}
	}
	t.fields[key] = &disclosure{pattern: number}
}
