{{- define "fer.name" -}}
{{- default (printf "%s" .Release.Name) .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "fer.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fer.labels" -}}
{{ include "fer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The pods that serve, of all pools. */}}
{{- define "fer.serverSelector" -}}
{{ include "fer.selector" . }}
app.kubernetes.io/component: server
{{- end -}}

{{/* Where one of the images is: (dict "image" .Values.images.client "tag" "0.1.0"). */}}
{{- define "fer.image" -}}
{{- $tag := default .tag .image.tag -}}
{{- printf "%s:%s" .image.repository $tag -}}{{- with .image.digest -}}@{{ . }}{{- end -}}
{{- end -}}

{{- define "fer.serverImage" -}}
{{- include "fer.image" (dict "image" .Values.images.server "tag" (printf "%s-%s" .Chart.AppVersion .Values.variant)) -}}
{{- end -}}

{{- define "fer.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fer.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Cluster-wide, so the namespace is part of it: the same release name may be in two of them. */}}
{{- define "fer.priorityClass" -}}
{{- printf "%s-%s" .Release.Namespace (include "fer.name" .) -}}
{{- end -}}

{{- define "fer.planClaim" -}}
{{- if eq .Values.variant "gpu" -}}
{{- if .Values.planCache.create -}}{{ include "fer.name" . }}-plans{{- else -}}{{ .Values.planCache.existingClaim }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The pools as YAML, by name: what is common, overridden by what each sets. Without pools there is `server` alone. */}}
{{- define "fer.pools" -}}
{{- $keys := list "replicas" "resources" "gpu" "sharedMemory" "nodeSelector" "tolerations" "affinity" "podAnnotations" "podLabels" "extraEnv" "extraArgs" "extraVolumes" "extraVolumeMounts" "sidecars" "dnsConfig" "topologySpread" "rollout" "autoscaling" -}}
{{- $common := dict -}}
{{- range $keys -}}{{- $_ := set $common . (index $.Values .) -}}{{- end -}}
{{- $pools := dict -}}
{{- range $pool, $own := default (dict "server" dict) .Values.pools -}}
{{- $merged := mergeOverwrite (deepCopy $common) (deepCopy (default dict $own)) -}}
{{- $name := include "fer.name" $ -}}
{{- if $.Values.pools -}}{{- $name = printf "%s-%s" $name $pool -}}{{- end -}}
{{- $_ := set $merged "name" $name -}}
{{- $_ := set $pools $pool $merged -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{/* Instances of fer_preprocess, by the same rule as in fer_build.assemble: one per core, two at least, and beside a GPU one
more. Takes a dict of `values`, a pool's, and `variant`. */}}
{{- define "fer.instances" -}}
{{- $cores := int .values.resources.cpu -}}
{{- if eq .variant "gpu" }}{{ add1 $cores }}{{ else }}{{ max 2 $cores }}{{ end -}}
{{- end -}}

{{/* Nobody is root, nothing is written but to mounted volumes: Pod Security Standard "restricted". */}}
{{- define "fer.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "fer.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Requests are limits: (dict "resources" ... "gpu" ...); gpu may be left out. */}}
{{- define "fer.resources" -}}
{{- $all := dict "cpu" (toString .resources.cpu) "memory" .resources.memory -}}
{{- with .resources.ephemeralStorage -}}{{- $_ := set $all "ephemeral-storage" . -}}{{- end -}}
{{- with .gpu -}}{{- $_ := set $all .resourceName (toString .count) -}}{{- end -}}
requests: {{- toYaml $all | nindent 2 }}
limits: {{- toYaml $all | nindent 2 }}
{{- end -}}
