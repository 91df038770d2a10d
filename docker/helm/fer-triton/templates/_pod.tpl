{{/*
The pod that serves: (dict "root" $ "pool" $pool "values" $values).

/models      the repository that is served: made by the init container, read-only for the server
/source      where the repository comes from, unless it is the image
/plans       TensorRT plans that pods share
/scripts     probe.py, prepare.sh and download.sh of this chart
*/}}
{{- define "fer.pod" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $isGpu := eq $root.Values.variant "gpu" -}}
{{- $resources := include "fer.resources" (dict "resources" $values.resources "gpu" ($isGpu | ternary $values.gpu nil)) -}}
{{- $claim := include "fer.planClaim" $root -}}
{{- $models := $root.Values.models -}}
{{- $shutdown := $root.Values.shutdown -}}
{{- $probe := list "python3" "-I" "-S" "/scripts/probe.py" "--manifest" "/models/repository/manifest.json" -}}
serviceAccountName: {{ include "fer.serviceAccount" $root | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.images.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "fer.podSecurity" $root | nindent 2 }}
{{- if $root.Values.priority.create }}
priorityClassName: {{ include "fer.priorityClass" $root | quote }}
{{- else if $root.Values.priority.className }}
priorityClassName: {{ $root.Values.priority.className | quote }}
{{- end }}
{{- if and $isGpu $values.gpu.runtimeClassName }}
runtimeClassName: {{ $values.gpu.runtimeClassName | quote }}
{{- end }}
# pause + drain + margin: see `shutdown` in values.yaml.
terminationGracePeriodSeconds: {{ add $shutdown.preStopSeconds $shutdown.drainSeconds $shutdown.marginSeconds }}
topologySpreadConstraints:
{{- range $key, $unsatisfiable := dict "topology.kubernetes.io/zone" $values.topologySpread.zone "kubernetes.io/hostname" $values.topologySpread.node }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ $unsatisfiable }}
    labelSelector:
      matchLabels: {{- include "fer.serverSelector" $root | nindent 8 }}
    matchLabelKeys: [pod-template-hash]  # a rollout's new pods are spread by themselves
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.dnsConfig }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
initContainers:
{{- if eq $models.source "s3" }}
  - name: download
    image: {{ include "fer.image" (dict "image" $root.Values.images.rclone "tag" "") }}
    imagePullPolicy: {{ $root.Values.images.pullPolicy }}
    command: [sh, /scripts/download.sh]
    env:
      - {name: FER_SOURCE, value: {{ printf "models:%s/%s" $models.s3.bucket $models.path | trimSuffix "/" | quote }}}
      - {name: RCLONE_CONFIG, value: /tmp/rclone.conf}
      - {name: RCLONE_CONFIG_MODELS_TYPE, value: s3}
      - {name: RCLONE_CONFIG_MODELS_PROVIDER, value: {{ $models.s3.provider | quote }}}
      - {name: RCLONE_CONFIG_MODELS_ENV_AUTH, value: "true"}
      {{- with $models.s3.endpoint }}
      - {name: RCLONE_CONFIG_MODELS_ENDPOINT, value: {{ . | quote }}}
      {{- end }}
      {{- with $models.s3.region }}
      - {name: RCLONE_CONFIG_MODELS_REGION, value: {{ . | quote }}}
      {{- end }}
    {{- with $models.s3.secretName }}
    envFrom: [{secretRef: {name: {{ . | quote }}}}]
    {{- end }}
    securityContext: {{- include "fer.containerSecurity" $root | nindent 6 }}
    resources: {{- include "fer.resources" (dict "resources" (dict "cpu" 1 "memory" "256Mi")) | nindent 6 }}
    volumeMounts:
      - {name: source, mountPath: /source}
      - {name: scripts, mountPath: /scripts, readOnly: true}
      - {name: tmp, mountPath: /tmp}
{{- end }}
  # Assembles or copies the repository, builds a GPU's plan on that GPU, and verifies. It is given what the server is given
  # afterwards: Kubernetes counts the larger of the two, not their sum.
  - name: prepare
    image: {{ include "fer.serverImage" $root }}
    imagePullPolicy: {{ $root.Values.images.pullPolicy }}
    command: [sh, /scripts/prepare.sh]
    env:
      - {name: FER_PROFILE, value: {{ $root.Values.variant }}}
      # A container sees all cores of its node: say how many it may use.
      - {name: FER_CORES, value: {{ $values.resources.cpu | quote }}}
      {{- if ne $models.source "image" }}
      - name: FER_SOURCE
        value: {{ (eq $models.source "s3" | ternary "/source/repository" (printf "/source/%s" $models.path)) | trimSuffix "/" | quote }}
      {{- end }}
      {{- if $claim }}
      - {name: FER_PLAN_CACHE, value: /plans}
      {{- end }}
    securityContext: {{- include "fer.containerSecurity" $root | nindent 6 }}
    resources: {{- $resources | nindent 6 }}
    volumeMounts:
      - {name: models, mountPath: /models}
      - {name: scripts, mountPath: /scripts, readOnly: true}
      - {name: tmp, mountPath: /tmp}
      - {name: shm, mountPath: /dev/shm}
      {{- if ne $models.source "image" }}
      - {name: source, mountPath: /source, readOnly: true}
      {{- end }}
      {{- if $claim }}
      - {name: plans, mountPath: /plans}
      {{- end }}
containers:
  - name: server
    image: {{ include "fer.serverImage" $root }}
    imagePullPolicy: {{ $root.Values.images.pullPolicy }}
    args:
      {{- if $isGpu }}
      - --exit-timeout-secs={{ $shutdown.drainSeconds }}
      {{- with $root.Values.service.grpcMaxConnectionAgeSeconds }}
      - --grpc-max-connection-age={{ mul . 1000 }}
      - --grpc-max-connection-age-grace={{ mul $shutdown.drainSeconds 1000 }}
      {{- end }}
      {{- else }}
      - --repository=/models/repository
      - --exit-timeout={{ $shutdown.drainSeconds }}
      {{- end }}
      {{- with $values.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with $values.extraEnv }}
    env: {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
      - {name: http, containerPort: 8000}
      - {name: grpc, containerPort: 8001}
      - {name: metrics, containerPort: 8002}
    # Each probe sends real inferences, two for every instance of a model: a Triton whose Python processes have died
    # still calls itself ready (/v2/health/ready is 200). "Busy" (503) is an answer of a living server and passes, or an
    # overload would turn into restarts. A healthy server answers in milliseconds; one probe costs 0.1 s of one core.
    #
    # timeoutSeconds: 1 s for Python to start, 2 s of asking, 12 s for the last answer. A request waits at most 10 s in
    #   fer_preprocess's queue before it is told "busy", so a server that hasn't answered by then is stuck.
    # startup: {{ $root.Values.probes.startup.failureThreshold }} x {{ $root.Values.probes.startup.periodSeconds }} s = {{ mul $root.Values.probes.startup.failureThreshold $root.Values.probes.startup.periodSeconds }} s at least for loading and warming up. Measured: 5 to 13 s on two busy cores.
    #   A plan is built before, in `prepare`, which has no limit but progressDeadlineSeconds.
    # readiness: a dead process answers at once that it is dead, so the pod gets no more requests after
    #   {{ $root.Values.probes.readiness.failureThreshold }} x {{ $root.Values.probes.readiness.periodSeconds }} s = {{ mul $root.Values.probes.readiness.failureThreshold $root.Values.probes.readiness.periodSeconds }} s.
    # liveness: and is restarted after {{ $root.Values.probes.liveness.failureThreshold }} x {{ $root.Values.probes.liveness.periodSeconds }} s = {{ mul $root.Values.probes.liveness.failureThreshold $root.Values.probes.liveness.periodSeconds }} s, a stuck one after {{ $root.Values.probes.liveness.failureThreshold }} x {{ $root.Values.probes.liveness.timeoutSeconds }} s = {{ mul $root.Values.probes.liveness.failureThreshold $root.Values.probes.liveness.timeoutSeconds }} s. Longer than fer-serve takes
    #   to find out by itself and start another Triton (cpu), which is the cheaper cure.
    startupProbe:
      exec: {command: {{ toJson $probe }}}
      {{- toYaml $root.Values.probes.startup | nindent 6 }}
    readinessProbe:
      exec: {command: {{ toJson $probe }}}
      {{- toYaml $root.Values.probes.readiness | nindent 6 }}
    livenessProbe:
      exec: {command: {{ toJson $probe }}}
      {{- toYaml $root.Values.probes.liveness | nindent 6 }}
      # It gets no requests any more by then, and a broken server cannot drain: no need for the whole grace period.
      terminationGracePeriodSeconds: {{ add $shutdown.preStopSeconds $shutdown.marginSeconds }}
    lifecycle:
      preStop:
        sleep: {seconds: {{ $shutdown.preStopSeconds }}}
    securityContext: {{- include "fer.containerSecurity" $root | nindent 6 }}
    resources: {{- $resources | nindent 6 }}
    volumeMounts:
      - {name: models, mountPath: /models, readOnly: true}
      - {name: scripts, mountPath: /scripts, readOnly: true}
      - {name: tmp, mountPath: /tmp}
      - {name: shm, mountPath: /dev/shm}
      {{- with $values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- range $values.sidecars }}
  - {{- toYaml (mergeOverwrite (dict "securityContext" (include "fer.containerSecurity" $root | fromYaml)) .) | nindent 4 }}
{{- end }}
volumes:
  - name: models
    emptyDir: {sizeLimit: 512Mi}
  - name: tmp
    emptyDir: {sizeLimit: 512Mi}
  - name: shm
    emptyDir: {medium: Memory, sizeLimit: {{ $values.sharedMemory | quote }}}
  - name: scripts
    configMap: {name: {{ include "fer.name" $root }}-scripts, defaultMode: 0444}
{{- if eq $models.source "oci" }}
  - name: source
    image: {reference: {{ required "models.oci.reference is needed for models.source oci" $models.oci.reference | quote }}, pullPolicy: {{ $models.oci.pullPolicy }}}
{{- else if eq $models.source "pvc" }}
  - name: source
    persistentVolumeClaim: {claimName: {{ required "models.pvc.claimName is needed for models.source pvc" $models.pvc.claimName | quote }}, readOnly: true}
{{- else if eq $models.source "s3" }}
  - name: source
    emptyDir: {sizeLimit: 512Mi}
{{- end }}
{{- if $claim }}
  - name: plans
    persistentVolumeClaim: {claimName: {{ $claim | quote }}}
{{- end }}
{{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
