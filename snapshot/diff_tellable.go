package snapshot

import (
	"regexp"
	"strings"
	"sync"
)

// tell is what may be told of a field that differs: of one with fields or
// elements which of those it is, of a leaf with values the value too, and of any
// other leaf only that it differs. Names of fields are the API's; keys of maps
// and elements of lists are people's, and may be secret as well.
type tell struct {
	fields map[string]*tell
	each   *tell          // the elements of a list of containers or ports
	values *regexp.Regexp // nil: no value is told
}

// told says whether a value may be. Numbers and truth values may where strings
// may.
func (t *tell) told(v any) bool {
	switch v := v.(type) {
	case nil, bool, int64, int32, int, float64:
		return t.values != nil
	case string:
		return t.values != nil && len(v) <= 253 && t.values.MatchString(v)
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

func (t *tell) at(path string) *tell {
	for name := range strings.SplitSeq(path, ".") {
		name, list := strings.CutSuffix(name, "[]")
		if t.fields == nil {
			t.fields = map[string]*tell{}
		}
		if t.fields[name] == nil {
			t.fields[name] = &tell{}
		}
		t = t.fields[name]
		if list {
			if t.each == nil {
				t.each = &tell{}
			}
			t = t.each
		}
	}
	return t
}

// let lets values through that look like that, of the fields named below path.
func (t *tell) let(values *regexp.Regexp, path, names string) {
	for name := range strings.FieldsSeq(names) {
		t.at(path + name).values = values
	}
}

// name lets the names of those fields through.
func (t *tell) name(path, names string) { t.let(nil, path, names) }

// tellable is the allow-list: for each kind the full paths of the fields that
// are told. "" is for all other kinds. Of Secrets nothing is.
var tellable = sync.OnceValue(func() map[string]*tell {
	all := map[string]*tell{}
	kind := func(name string) *tell {
		t := &tell{}
		t.name("metadata.", "labels annotations ownerReferences finalizers")
		t.let(moment, "metadata.", "deletionTimestamp")
		all[name] = t
		return t
	}
	pod := func(t *tell, path string) {
		t.let(word, path, `nodeName serviceAccountName restartPolicy hostNetwork hostPID hostIPC shareProcessNamespace
			priorityClassName priority preemptionPolicy schedulerName dnsPolicy runtimeClassName enableServiceLinks
			automountServiceAccountToken terminationGracePeriodSeconds activeDeadlineSeconds`)
		t.name(path, `serviceAccount nodeSelector affinity tolerations volumes imagePullSecrets securityContext hostname subdomain
			topologySpreadConstraints hostAliases dnsConfig readinessGates schedulingGates overhead os`)
		for _, list := range []string{"containers[].", "initContainers[].", "ephemeralContainers[]."} {
			t.let(imageName, path+list, "image")
			t.let(word, path+list, "imagePullPolicy restartPolicy stdin tty")
			for _, kind := range []string{"resources.limits", "resources.requests"} {
				// The key has dots in no name but those of extended resources, which aren't told.
				t.let(quantity, path+list+kind+".", "cpu memory ephemeral-storage")
			}
			t.name(path+list, `command args env envFrom ports volumeMounts volumeDevices livenessProbe readinessProbe startupProbe
				lifecycle securityContext workingDir`)
		}
	}
	template := func(t *tell, path string) {
		t.name(path+"metadata.", "labels annotations")
		pod(t, path+"spec.")
	}
	job := func(t *tell, path string) {
		t.let(word, path, "parallelism completions backoffLimit suspend ttlSecondsAfterFinished activeDeadlineSeconds completionMode")
		t.name(path, "selector podFailurePolicy")
		template(t, path+"template.")
	}

	all[""] = &tell{}
	all[""].name("", "spec data")
	all[""].name("metadata.", "labels annotations ownerReferences finalizers")

	for _, k := range []string{"apps Deployment", "apps ReplicaSet", "apps StatefulSet", "apps DaemonSet", "ReplicationController"} {
		t := kind(k)
		t.let(word, "spec.", "replicas paused minReadySeconds revisionHistoryLimit progressDeadlineSeconds podManagementPolicy serviceName")
		t.name("spec.", "selector volumeClaimTemplates persistentVolumeClaimRetentionPolicy")
		for _, s := range []string{"spec.strategy.", "spec.updateStrategy."} {
			t.let(word, s, "type")
			t.let(quantity, s+"rollingUpdate.", "maxSurge maxUnavailable partition")
		}
		template(t, "spec.template.")
		for _, n := range []string{"desired-replicas", "max-replicas", "revision"} {
			t.at("metadata.annotations").annotation("deployment.kubernetes.io/" + n)
		}
	}
	pod(kind("Pod"), "spec.")
	job(kind("batch Job"), "spec.")
	t := kind("batch CronJob")
	t.let(schedule, "spec.", "schedule")
	t.let(word, "spec.", "timeZone suspend concurrencyPolicy successfulJobsHistoryLimit failedJobsHistoryLimit startingDeadlineSeconds")
	job(t, "spec.jobTemplate.spec.")

	t = kind("Service")
	t.let(word, "spec.", "type externalTrafficPolicy internalTrafficPolicy sessionAffinity ipFamilyPolicy healthCheckNodePort")
	t.let(address, "spec.", "clusterIP")
	t.let(word, "spec.ports[].", "port targetPort nodePort protocol")
	t.name("spec.", "selector clusterIPs ipFamilies externalIPs externalName loadBalancerIP loadBalancerSourceRanges")
	t = kind("Node")
	t.let(word, "spec.", "unschedulable")
	t.let(address, "spec.", "podCIDR")
	t.name("spec.", "taints podCIDRs providerID")
	kind("Namespace").name("spec.", "finalizers")
	t = kind("PersistentVolumeClaim")
	t.let(word, "spec.", "storageClassName volumeName volumeMode")
	t.let(quantity, "spec.resources.requests.", "storage")
	t.name("spec.", "accessModes selector dataSource dataSourceRef")
	t = kind("PersistentVolume")
	t.let(word, "spec.", "storageClassName persistentVolumeReclaimPolicy volumeMode")
	t.let(word, "spec.claimRef.", "namespace name")
	t.let(quantity, "spec.capacity.", "storage")
	t.name("spec.", "accessModes nodeAffinity mountOptions")
	t = kind("ServiceAccount")
	t.let(word, "", "automountServiceAccountToken")
	t.name("", "secrets imagePullSecrets")
	t = kind("ConfigMap")
	t.let(word, "", "immutable")
	t.name("", "data binaryData")
	kind("ResourceQuota").name("spec.", "hard scopes")
	kind("LimitRange").name("spec.", "limits")

	t = kind("autoscaling HorizontalPodAutoscaler")
	t.let(word, "spec.", "minReplicas maxReplicas targetCPUUtilizationPercentage")
	t.let(word, "spec.scaleTargetRef.", "kind name")
	t.name("spec.", "metrics behavior")
	t = kind("policy PodDisruptionBudget")
	t.let(quantity, "spec.", "minAvailable maxUnavailable")
	t.let(word, "spec.", "unhealthyPodEvictionPolicy")
	t.name("spec.", "selector")
	t = kind("scheduling.k8s.io PriorityClass")
	t.let(word, "", "value globalDefault preemptionPolicy")
	t = kind("networking.k8s.io Ingress")
	t.let(word, "spec.", "ingressClassName")
	t.name("spec.", "rules tls defaultBackend")
	kind("networking.k8s.io NetworkPolicy").name("spec.", "podSelector ingress egress policyTypes")
	kind("networking.k8s.io IngressClass").let(word, "spec.", "controller")
	t = kind("storage.k8s.io StorageClass")
	t.let(word, "", "provisioner reclaimPolicy volumeBindingMode allowVolumeExpansion")
	t.name("", "parameters mountOptions allowedTopologies")
	for _, k := range []string{"Role", "ClusterRole"} {
		kind("rbac.authorization.k8s.io "+k).name("", "rules aggregationRule")
	}
	for _, k := range []string{"RoleBinding", "ClusterRoleBinding"} {
		t := kind("rbac.authorization.k8s.io " + k)
		t.let(word, "roleRef.", "kind name")
		t.name("", "subjects")
	}
	for _, k := range []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"} {
		kind("admissionregistration.k8s.io "+k).name("", "webhooks")
	}
	return all
})

// annotation lets the number through that a controller of the cluster keeps in
// an annotation.
func (t *tell) annotation(key string) {
	if t.fields == nil {
		t.fields = map[string]*tell{}
	}
	t.fields[key] = &tell{values: number}
}
