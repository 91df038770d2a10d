{{/*
What values.schema.json cannot tell: sizes and numbers that have to fit each other. Called once, by deployment.yaml.

Each message names the value, says what it is and what it has to be.
*/}}
{{- define "fer.checks" -}}
{{- if not (regexMatch "^[a-z]" (include "fer.name" .)) -}}
{{- fail (printf "the release is called %s, and names of Services begin with a letter: set fullnameOverride" .Release.Name) -}}
{{- end -}}
{{- if has (include "fer.name" .) (list "true" "false" "yes" "no" "on" "off" "y" "n" "null") -}}
{{- fail (printf "the name %s is no text to YAML: set another fullnameOverride" (include "fer.name" .)) -}}
{{- end -}}
{{- if and .Values.priority.create .Values.priority.className -}}
{{- fail (printf "priority: create makes a class of its own, and className %s is another: set one of the two" .Values.priority.className) -}}
{{- end -}}
{{- if and .Values.planCache.create .Values.planCache.existingClaim -}}
{{- fail (printf "planCache: create makes a claim of its own, and existingClaim %s is another: set one of the two" .Values.planCache.existingClaim) -}}
{{- end -}}
{{- include "fer.atLeast" (dict "name" "planCache.size" "size" .Values.planCache.size "least" "64Mi" "why" "a TensorRT plan takes some MiB, and there is one for each kind of GPU") -}}
{{- with .Values.loadtest -}}
{{- include "fer.atLeast" (dict "name" "loadtest.resources.memory" "size" .resources.memory "least" "128Mi" "why" "Locust needs that much") -}}
{{- if and .enabled (ge (int .waitSeconds) (int .deadlineSeconds)) -}}
{{- fail (printf "loadtest.deadlineSeconds is %d, with the waiting, and waitSeconds %d already: give it more" (int .deadlineSeconds) (int .waitSeconds)) -}}
{{- end -}}
{{- end -}}
{{- range .Values.gateway.grpcHostnames -}}
{{- if has . $.Values.gateway.hostnames -}}
{{- fail (printf "gateway.grpcHostnames: %s is one of gateway.hostnames too, and a Gateway accepts only one of two routes with the same host: give gRPC a host of its own, such as grpc.%s" . .) -}}
{{- end -}}
{{- end -}}
{{- range $pool, $values := include "fer.pools" . | fromYaml -}}
{{- include "fer.checkPool" (dict "values" $values "prefix" (empty $.Values.pools | not | ternary (printf "pools.%s." $pool) "")) -}}
{{- end -}}
{{- end -}}

{{/* (dict "values" $values "prefix" "pools.l4."), the prefix being empty where there are no pools. */}}
{{- define "fer.checkPool" -}}
{{- $prefix := .prefix -}}
{{- with .values -}}
{{- include "fer.atLeast" (dict "name" (print $prefix "resources.memory") "size" .resources.memory "least" "512Mi" "why" "the server alone needs about 700 MB on two cores") -}}
{{- include "fer.atLeast" (dict "name" (print $prefix "sharedMemory") "size" .sharedMemory "least" "64Mi" "why" "it has to hold about 40 MiB for each core") -}}
{{- with .resources.ephemeralStorage -}}
{{- include "fer.atLeast" (dict "name" (print $prefix "resources.ephemeralStorage") "size" . "least" "128Mi" "why" "the model repository and /tmp are in it") -}}
{{- end -}}
{{- if gt (include "fer.bytes" .sharedMemory | float64) (include "fer.bytes" .resources.memory | float64) -}}
{{- fail (printf "%ssharedMemory is %s and counts towards %sresources.memory, which is %s only: set memory above it" $prefix .sharedMemory $prefix .resources.memory) -}}
{{- end -}}
{{- if and (include "fer.isNone" .rollout.maxSurge) (include "fer.isNone" .rollout.maxUnavailable) -}}
{{- fail (printf "%srollout: with maxSurge and maxUnavailable both 0 no pod can ever be replaced: set one of them to 1" $prefix) -}}
{{- end -}}
{{- if ge (int .rollout.minReadySeconds) (int .rollout.progressDeadlineSeconds) -}}
{{- fail (printf "%srollout.progressDeadlineSeconds is %d and has to be more than minReadySeconds, which is %d" $prefix (int .rollout.progressDeadlineSeconds) (int .rollout.minReadySeconds)) -}}
{{- end -}}
{{- include "fer.unique" (dict "name" (print $prefix "extraEnv") "items" .extraEnv "key" "name") -}}
{{- include "fer.unique" (dict "name" (print $prefix "extraVolumes") "items" .extraVolumes "key" "name") -}}
{{- include "fer.unique" (dict "name" (print $prefix "extraVolumeMounts") "items" .extraVolumeMounts "key" "mountPath") -}}
{{- include "fer.unique" (dict "name" (print $prefix "sidecars") "items" .sidecars "key" "name") -}}
{{- $volumes := list -}}
{{- range .extraVolumes -}}{{- $volumes = append $volumes .name -}}{{- end -}}
{{- range .extraVolumeMounts -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "%sextraVolumeMounts: %s is mounted at %s and is none of extraVolumes" $prefix .name .mountPath) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Fails where a size is too small: (dict "name" "resources.memory" "size" "8Mi" "least" "512Mi" "why" "..."). */}}
{{- define "fer.atLeast" -}}
{{- if not .size -}}
{{- fail (printf "%s is missing: set at least %s" .name .least) -}}
{{- end -}}
{{- if lt (include "fer.bytes" .size | float64) (include "fer.bytes" .least | float64) -}}
{{- fail (printf "%s is %s: set at least %s, since %s" .name .size .least .why) -}}
{{- end -}}
{{- end -}}

{{/* A size as a number of bytes: `4Gi` is 4294967296. */}}
{{- define "fer.bytes" -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (float64 $number) (index $units (trimPrefix $number .) | float64) -}}
{{- end -}}

{{/* Whether a count or a percentage is zero. */}}
{{- define "fer.isNone" -}}
{{- if regexMatch "^0+%?$" (toString .) -}}yes{{- end -}}
{{- end -}}

{{/* Fails where two items have the same key: (dict "name" "extraEnv" "items" $items "key" "name"). */}}
{{- define "fer.unique" -}}
{{- $seen := list -}}
{{- $arguments := . -}}
{{- range .items -}}
{{- $value := index . $arguments.key -}}
{{- if has $value $seen -}}
{{- fail (printf "%s: %s is there twice" $arguments.name $value) -}}
{{- end -}}
{{- $seen = append $seen $value -}}
{{- end -}}
{{- end -}}
