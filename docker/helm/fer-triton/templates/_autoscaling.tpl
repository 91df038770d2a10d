{{/*
What a pool is scaled by, as YAML: the metric's name for the Pods metrics of an HPA (docker/kubernetes/
prometheus-adapter-values.yaml makes them), the average of a pod that is aimed at, and the same metric, summed over the
pool's pods, in PromQL for KEDA, which divides by the number of pods.

Busy instances are the seconds of fer_preprocess's work in a second; with max_batch_size 0 no two requests share one.
*/}}
{{- define "fer.targets" -}}
{{- $targets := .values.autoscaling.targets -}}
{{- $pods := printf `namespace="%s", pod=~"%s-[a-z0-9]+-[a-z0-9]{5}"` .root.Release.Namespace .values.name -}}
{{- if $targets.busyFraction }}
{{- $instances := include "fer.instances" (dict "values" .values "variant" .root.Values.variant) | int }}
- name: fer_preprocess_busy_instances
  perPod: {{ printf "%dm" (int (round (mulf $targets.busyFraction $instances 1000) 0)) }}
  threshold: {{ mulf $targets.busyFraction $instances | toString | quote }}
  query: sum(rate(nv_inference_compute_input_duration_us{model="fer_preprocess", {{ $pods }}}[1m]) + rate(nv_inference_compute_infer_duration_us{model="fer_preprocess", {{ $pods }}}[1m]) + rate(nv_inference_compute_output_duration_us{model="fer_preprocess", {{ $pods }}}[1m])) / 1e6
{{- end }}
{{- range $model, $milliseconds := dict "fer_preprocess" $targets.preprocessQueueMilliseconds "fer_classifier" $targets.classifierQueueMilliseconds }}
- name: {{ $model }}_queue_milliseconds
  perPod: {{ $milliseconds | quote }}
  threshold: {{ $milliseconds | quote }}
  query: sum(rate(nv_inference_queue_duration_us{model="{{ $model }}", {{ $pods }}}[1m]) / clamp_min(rate(nv_inference_request_success{model="{{ $model }}", {{ $pods }}}[1m]), 0.001)) / 1000
{{- end }}
{{- range $model, $requests := dict "fer_preprocess" $targets.preprocessPendingRequests "fer_classifier" $targets.classifierPendingRequests }}
- name: {{ $model }}_pending_requests
  perPod: {{ $requests | quote }}
  threshold: {{ $requests | quote }}
  query: sum(avg_over_time(nv_inference_pending_request_count{model="{{ $model }}", {{ $pods }}}[1m]))
{{- end }}
{{- end -}}

{{/* How fast it may go; the same for both autoscalers. */}}
{{- define "fer.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: {{ .scaleUp.stabilizationWindowSeconds }}
  selectPolicy: Max
  policies:
    - {type: Percent, value: {{ .scaleUp.percent }}, periodSeconds: {{ .scaleUp.periodSeconds }}}
    - {type: Pods, value: {{ .scaleUp.pods }}, periodSeconds: {{ .scaleUp.periodSeconds }}}
scaleDown:
  stabilizationWindowSeconds: {{ .scaleDown.stabilizationWindowSeconds }}
  selectPolicy: Max
  policies:
    - {type: Percent, value: {{ .scaleDown.percent }}, periodSeconds: {{ .scaleDown.periodSeconds }}}
    - {type: Pods, value: {{ .scaleDown.pods }}, periodSeconds: {{ .scaleDown.periodSeconds }}}
{{- end -}}
