"""What cannot work is refused by the real helm, in a line that names the value and says what was meant."""

import subprocess

import pytest

from fer_sizing.chart import CHART, render
from fer_sizing.errors import SizingError

SIZE = "a size with its unit, such as 4Gi or 512Mi: a bare number is bytes"
WRITTEN = "a size as Kubernetes writes it: a number and, without a space, Mi, Gi, Ti, M, G or T, such as 4Gi"
THOUSANDTH = "a size such as 4Gi or 512Mi: m is a thousandth of a byte"
QUOTED = 'a string: put it in quotes, "true" or "1" rather than true or 1'
VALUE = 'a string: put it in quotes, as in {name: OMP_NUM_THREADS, value: "1"}'
VARIABLE = "the name of a variable: letters, digits and _, not a digit first, such as OMP_NUM_THREADS"
EITHER = "a name and either a value or a valueFrom"
SOURCES = "one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef"
CORES = "a whole number of cores, from 1 on and without quotes or m, such as 4"
SHARE = "a whole number without quotes, such as 1, or a percentage"
KEY = "left out, or under a key as Kubernetes takes it"
LABEL = "at most 63 letters, digits, -, _ and ., with a letter or digit at both ends"
REPOSITORY = "a repository without https://, tag and digest"
REFERENCE = "an image with its version or digest, and no https://"
HOST = "a host name in lower case, without https://, port and path"
OBJECT = "the name of a Kubernetes object: lower-case letters, digits, - and ."
SECONDS = "a whole number of seconds from 1 on, at most 604800 (a week), without quotes and unit"
PATH = "a path without / in front and without .."
HEX = "5" * 64

REFUSED = [
    # extraEnv
    ("extraEnv: [{name: OMP_NUM_THREADS, value: 1}]", "/extraEnv/0/value", VALUE),
    ("extraEnv: [{name: DEBUG, value: true}]", "/extraEnv/0/value", VALUE),
    ("extraEnv: [{name: DEBUG, value: no}]", "/extraEnv/0/value", VALUE),
    ("extraEnv: [{name: RATE, value: 1.10}]", "/extraEnv/0/value", VALUE),
    ("extraEnv: [{name: EMPTY, value: null}]", "/extraEnv/0/value", VALUE),
    ("extraEnv: [{name: LIST, value: [a]}]", "/extraEnv/0/value", VALUE),
    ("pools: {a: {extraEnv: [{name: A, value: 1}]}}", "/pools/a/extraEnv/0/value", VALUE),
    ("extraEnv: [{name: OMP-NUM-THREADS, value: '1'}]", "/extraEnv/0/name", VARIABLE),
    ("extraEnv: [{name: 1A, value: '1'}]", "/extraEnv/0/name", VARIABLE),
    ("extraEnv: [{name: 'A B', value: '1'}]", "/extraEnv/0/name", VARIABLE),
    ("extraEnv: [{name: '', value: '1'}]", "/extraEnv/0/name", VARIABLE),
    ("extraEnv: [{name: 1, value: '1'}]", "/extraEnv/0/name", VARIABLE),
    ("extraEnv: [{name: A}]", "/extraEnv/0", EITHER),
    ("extraEnv: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: x}}}]", "/extraEnv/0", EITHER),
    ("extraEnv: [{name: A, vlaue: b}]", "/extraEnv/0", "additional properties 'vlaue' not allowed"),
    ("extraEnv: [{value: b}]", "/extraEnv/0", "an item such as {name: OMP_NUM_THREADS"),
    ("extraEnv: [OMP_NUM_THREADS=1]", "/extraEnv/0", "an item such as {name: OMP_NUM_THREADS"),
    ("extraEnv: {OMP_NUM_THREADS: '1'}", "/extraEnv", "got object, want array"),
    ("extraEnv: [{name: A, valueFrom: {}}]", "/extraEnv/0/valueFrom", SOURCES),
    ("extraEnv: [{name: A, valueFrom: secret}]", "/extraEnv/0/valueFrom", SOURCES),
    (
        "extraEnv: [{name: A, valueFrom: {fieldRef: {fieldPath: a}, secretKeyRef: {name: a, key: b}}}]",
        "/extraEnv/0/valueFrom",
        SOURCES,
    ),
    ("extraEnv: [{name: A, valueFrom: {secretRef: {name: b}}}]", "/extraEnv/0/valueFrom", "'secretRef' not allowed"),
    ("extraEnv: [{name: A, valueFrom: {secretKeyRef: {name: b}}}]", "/extraEnv/0/valueFrom/secretKeyRef", "'key'"),
    (
        "extraEnv: [{name: A, valueFrom: {secretKeyRef: {name: B_c, key: d}}}]",
        "/extraEnv/0/valueFrom/secretKeyRef/name",
        OBJECT,
    ),
    ("extraEnv: [{name: A, value: a}, {name: A, value: b}]", "", "extraEnv: A is there twice"),
    # sizes
    ("resources: {memory: '8'}", "/resources/memory", SIZE),
    ("resources: {memory: 8}", "/resources/memory", SIZE),
    ("resources: {memory: 8589934592}", "/resources/memory", SIZE),
    ("resources: {memory: '4096'}", "/resources/memory", SIZE),
    ("resources: {memory: 8Ki}", "/resources/memory", SIZE),
    ("resources: {memory: 0.5}", "/resources/memory", SIZE),
    ("resources: {memory: 512m}", "/resources/memory", THOUSANDTH),
    ("resources: {memory: 4gi}", "/resources/memory", WRITTEN),
    ("resources: {memory: 4GB}", "/resources/memory", WRITTEN),
    ("resources: {memory: 4 Gi}", "/resources/memory", WRITTEN),
    ("resources: {memory: 4GiB}", "/resources/memory", WRITTEN),
    ("resources: {memory: 4g}", "/resources/memory", WRITTEN),
    ("resources: {memory: -4Gi}", "/resources/memory", WRITTEN),
    ("resources: {memory: lots}", "/resources/memory", WRITTEN),
    ("resources: {memory: 8M}", "", "resources.memory is 8M: set at least 512Mi"),
    ("resources: {memory: 511.9Mi}", "", "resources.memory is 511.9Mi: set at least 512Mi"),
    ("resources: {memory: 0Gi}", "", "resources.memory is 0Gi: set at least 512Mi"),
    ("resources: {memory: null}", "", "resources.memory is missing: set at least 512Mi"),
    ("resources: {ephemeralStorage: 1}", "/resources/ephemeralStorage", SIZE),
    ("resources: {ephemeralStorage: 1Mi}", "", "resources.ephemeralStorage is 1Mi: set at least 128Mi"),
    ("sharedMemory: 1", "/sharedMemory", SIZE),
    ("sharedMemory: 64m", "/sharedMemory", THOUSANDTH),
    ("sharedMemory: 1Mi", "", "sharedMemory is 1Mi: set at least 64Mi"),
    ("sharedMemory: null", "", "sharedMemory is missing: set at least 64Mi"),
    (
        "sharedMemory: 8Gi",
        "",
        "sharedMemory is 8Gi and counts towards resources.memory, which is 4Gi only: set memory above it",
    ),
    ("{sharedMemory: 4295M, resources: {memory: 4Gi}}", "", "sharedMemory is 4295M and counts towards"),
    ("{sharedMemory: '4294967297', resources: {memory: 4Gi}}", "", "sharedMemory is 4294967297 and counts towards"),
    (
        "pools: {a: {}, b: {resources: {memory: 900Mi}}}",
        "",
        "pools.b.sharedMemory is 1Gi and counts towards pools.b.resources.memory, which is 900Mi only",
    ),
    ("planCache: {size: 1}", "/planCache/size", SIZE),
    ("planCache: {size: 1Mi}", "", "planCache.size is 1Mi: set at least 64Mi"),
    ("loadtest: {resources: {memory: '2'}}", "/loadtest/resources/memory", SIZE),
    ("loadtest: {resources: {memory: 2M}}", "", "loadtest.resources.memory is 2M: set at least 128Mi"),
    # cores
    ("resources: {cpu: 1m}", "/resources/cpu", CORES),
    ("resources: {cpu: 500m}", "/resources/cpu", CORES),
    ("resources: {cpu: '4'}", "/resources/cpu", CORES),
    ("resources: {cpu: 2.5}", "/resources/cpu", CORES),
    ("resources: {cpu: 0}", "/resources/cpu", CORES),
    ("resources: {cpu: 4000}", "/resources/cpu", CORES),
    ("resources: {limits: {cpu: 4}}", "/resources/limits", "left out: cpu and memory are set in resources itself"),
    ("loadtest: {resources: {cpu: 1m}}", "/loadtest/resources/cpu", "a number of cores, at least 0.1"),
    ("loadtest: {resources: {cpu: 2000}}", "/loadtest/resources/cpu", "a number of cores, at least 0.1"),
    ("gpu: {count: 0}", "/gpu/count", "a whole number from 1 on"),
    ("gpu: {count: '1'}", "/gpu/count", "a whole number from 1 on"),
    ("gpu: {resourceName: gpu}", "/gpu/resourceName", "a resource with its domain, such as nvidia.com/gpu"),
    # counts, percentages, times, ports
    ("replicas: '2'", "/replicas", "a whole number from 0 on, at most 100000 and without quotes"),
    ("replicas: -1", "/replicas", "a whole number from 0 on"),
    ("replicas: 1.5", "/replicas", "a whole number from 0 on"),
    ("rollout: {maxSurge: '1'}", "/rollout/maxSurge", SHARE),
    ("rollout: {maxSurge: 25}\nreplicas: '2'", "/replicas", "a whole number"),
    ("rollout: {maxSurge: 0.25}", "/rollout/maxSurge", SHARE),
    ("rollout: {maxUnavailable: 250%}", "/rollout/maxUnavailable", SHARE),
    ("podDisruptionBudget: {maxUnavailable: 50 %}", "/podDisruptionBudget/maxUnavailable", SHARE),
    ("rollout: {maxSurge: 0}", "", "with maxSurge and maxUnavailable both 0 no pod can ever be replaced"),
    ("rollout: {maxSurge: 0%, maxUnavailable: 0%}", "", "both 0 no pod can ever be replaced"),
    ("rollout: {minReadySeconds: 30s}", "/rollout/minReadySeconds", "a whole number of seconds from 0 on"),
    (
        "rollout: {minReadySeconds: 60, progressDeadlineSeconds: 60}",
        "",
        "rollout.progressDeadlineSeconds is 60 and has to be more than minReadySeconds, which is 60",
    ),
    ("probes: {liveness: {timeoutSeconds: 1}}", "/probes/liveness/timeoutSeconds", "a whole number of seconds from 15"),
    ("probes: {liveness: {periodSeconds: 10s}}", "/probes/liveness/periodSeconds", SECONDS),
    ("rollout: {progressDeadlineSeconds: 1000000}", "/rollout/progressDeadlineSeconds", SECONDS),  # helm: 1e+06
    ("replicas: 1000000", "/replicas", "a whole number from 0 on, at most 100000"),
    ("shutdown: {marginSeconds: 3}", "/shutdown/marginSeconds", "a whole number of seconds from 6 on"),
    ("shutdown: {drainSeconds: 20s}", "/shutdown/drainSeconds", SECONDS),
    ("metrics: {podMonitor: {interval: 15}}", "/metrics/podMonitor/interval", "a time with its unit, such as 15s"),
    ("metrics: {podMonitor: {interval: 0s}}", "/metrics/podMonitor/interval", "a time with its unit, such as 15s"),
    ("metrics: {podMonitor: {interval: ''}}", "/metrics/podMonitor/interval", "a time with its unit, such as 15s"),
    ("networkPolicy: {s3Ports: ['443']}", "/networkPolicy/s3Ports/0", "a port: a whole number from 1 to 65535"),
    ("networkPolicy: {s3Ports: [70000]}", "/networkPolicy/s3Ports/0", "a port: a whole number from 1 to 65535"),
    (
        "networkPolicy: {extraEgress: [{ports: [{port: '4318'}]}]}",
        "/networkPolicy/extraEgress/0/ports/0/port",
        "a port: a whole number",
    ),
    ("loadtest: {enabled: true, waitSeconds: 900}", "", "loadtest.deadlineSeconds is 900, with the waiting, and wait"),
    # scaling
    (
        "autoscaling: {targets: {busyFraction: 70}}",
        "/autoscaling/targets/busyFraction",
        "a fraction from 0 to 1, such as 0.7",
    ),
    (
        "autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 3}",
        "",
        "autoscaling of fer: minReplicas 5 is more than maxReplicas 3",
    ),
    (
        "pools: {a: {autoscaling: {enabled: true, minReplicas: 11}}}",
        "",
        "autoscaling of fer-a: minReplicas 11 is more than maxReplicas 10",
    ),
    ("autoscaling: {minReplicas: 0}", "/autoscaling/minReplicas", "a whole number from 1 on"),
    (
        "autoscaling: {keda: {serverAddress: 'prometheus:9090'}}",
        "/autoscaling/keda/serverAddress",
        "a URL with http:// or https:// in front",
    ),
    # labels, annotations, where pods go
    ("nodeSelector: {gpu: true}", "/nodeSelector/gpu", QUOTED),
    ("nodeSelector: {kubernetes.io/os: 1}", "/nodeSelector/kubernetes.io~1os", QUOTED),
    (f"nodeSelector: {{a: {'b' * 64}}}", "/nodeSelector/a", LABEL),
    ("nodeSelector: {a: 'NVIDIA L4'}", "/nodeSelector/a", LABEL),
    ("nodeSelector: {a: b-}", "/nodeSelector/a", LABEL),
    ("nodeSelector: {a/b/c: d}", "/nodeSelector/a~1b~1c", KEY),
    (f"podLabels: {{{'a' * 64}: d}}", f"/podLabels/{'a' * 64}", KEY),
    ("pools: {a: {podLabels: {team: 1}}}", "/pools/a/podLabels/team", QUOTED),
    ("commonLabels: {team: a, version: 2}", "/commonLabels/version", QUOTED),
    (
        "podLabels: {app.kubernetes.io/name: x}",
        "/podLabels/app.kubernetes.io~1name",
        "left out: the chart sets this label itself",
    ),
    ("commonLabels: {fer-triton/pool: x}", "/commonLabels/fer-triton~1pool", "left out: the chart sets this label"),
    ("podAnnotations: {prometheus.io/scrape: true}", "/podAnnotations/prometheus.io~1scrape", QUOTED),
    ("podAnnotations: {checksum/scripts: x}", "/podAnnotations/checksum~1scripts", "left out: the chart sets this"),
    ("service: {annotations: {a.b/port: 8000}}", "/service/annotations/a.b~1port", QUOTED),
    ("ingress: {annotations: {a.b/size: 8.5}}", "/ingress/annotations/a.b~1size", QUOTED),
    ("metrics: {dashboard: {labels: {grafana_dashboard: 1}}}", "/metrics/dashboard/labels/grafana_dashboard", QUOTED),
    ("tolerations: [{key: gpu, operator: exists}]", "/tolerations/0/operator", "value must be one of 'Exists'"),
    ("tolerations: [{key: gpu, effect: NoShedule}]", "/tolerations/0/effect", "value must be one of 'NoSchedule'"),
    ("tolerations: [{key: gpu, value: true}]", "/tolerations/0/value", QUOTED),
    (
        "tolerations: [{key: gpu, operator: Exists, value: a}]",
        "/tolerations/0",
        "without value where operator is Exists",
    ),
    ("tolerations: [{operator: Equal, value: a}]", "/tolerations/0", "with a key, or with operator Exists alone"),
    ("tolerations: [{key: gpu, value: a, tolerationSeconds: 5}]", "/tolerations/0", "with effect NoExecute where"),
    ("tolerations: [{key: gpu, efect: NoSchedule}]", "/tolerations/0", "additional properties 'efect' not allowed"),
    ("tolerations: {key: gpu}", "/tolerations", "got object, want array"),
    ("affinity: {nodeAffinty: {}}", "/affinity", "additional properties 'nodeAffinty' not allowed"),
    ("affinity: {nodeAffinity: 1}", "/affinity/nodeAffinity", "a table, as in the spec of a pod"),
    (
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
        "[{matchExpressions: [{key: gpu, operator: In, values: [true]}]}]}}}",
        "/matchExpressions/0/values/0",
        QUOTED,
    ),
    ("pools: {L4: {}}", "/pools/L4", "left out, or under another name: at most 20 lower-case letters"),
    ("dnsConfig: {options: [{name: ndots, value: 2}]}", "/dnsConfig/options/0/value", QUOTED),
    ("extraArgs: [--log-verbose, 1]", "/extraArgs/1", QUOTED),
    ("loadtest: {args: [--p99-ms, 1500]}", "/loadtest/args/1", QUOTED),
    # images
    ("images: {server: {tag: latest}}", "/images/server/tag", "a version, such as 0.1.0-cpu: latest is whatever"),
    ("images: {server: {tag: 1.10}}", "/images/server/tag", 'a version in quotes, such as "0.1.0"'),
    ("images: {server: {tag: ':0.1'}}", "/images/server/tag", "a version in quotes"),
    (f"images: {{server: {{tag: {'a' * 129}}}}}", "/images/server/tag", "at most 128 letters"),
    ("images: {server: {digest: sha256:beef}}", "/images/server/digest", "sha256: and 64 digits from 0 to f"),
    (f"images: {{server: {{digest: {HEX}}}}}", "/images/server/digest", "sha256: and 64 digits from 0 to f"),
    (f"images: {{server: {{digest: 'sha256:{HEX[1:]}A'}}}}", "/images/server/digest", "in lower case"),
    ("images: {client: {repository: 'registry.example.com/fer:0.1'}}", "/images/client/repository", REPOSITORY),
    ("images: {client: {repository: 'https://registry.example.com/fer'}}", "/images/client/repository", REPOSITORY),
    ("images: {client: {repository: registry.example.com/Fer}}", "/images/client/repository", REPOSITORY),
    (f"images: {{client: {{repository: 'fer@sha256:{HEX}'}}}}", "/images/client/repository", REPOSITORY),
    ("images: {pullSecrets: [registry]}", "/images/pullSecrets/0", "an item such as {name: registry}"),
    ("images: {pullPolicy: always}", "/images/pullPolicy", "value must be one of 'Always'"),
    ("models: {source: oci, oci: {reference: registry.example.com/models}}", "/models/oci/reference", REFERENCE),
    ("models: {source: oci, oci: {reference: 'r.example.com/m:latest'}}", "/models/oci/reference", REFERENCE),
    ("models: {source: oci, oci: {reference: 'oci://r.example.com/m:1'}}", "/models/oci/reference", REFERENCE),
    # what something needs
    ("models: {source: oci}", "/models/oci/reference", "set for this models.source"),
    ("models: {source: pvc}", "/models/pvc/claimName", "set for this models.source"),
    ("models: {source: s3}", "/models/s3/bucket", "set for this models.source"),
    ("ingress: {enabled: true, host: a.b}", "/ingress/tlsSecretName", "set where enabled is true"),
    ("ingress: {enabled: true, tlsSecretName: a}", "/ingress/host", "set where enabled is true"),
    ("gateway: {enabled: true, parentRefs: [{name: a}]}", "/gateway/hostnames", "set where enabled is true"),
    # names and places
    ("models: {source: s3, s3: {bucket: 's3://models'}}", "/models/s3/bucket", "the name of a bucket alone"),
    ("models: {source: s3, s3: {bucket: models/fer}}", "/models/s3/bucket", "the path goes into models.path"),
    ("models: {s3: {endpoint: 'minio:9000'}}", "/models/s3/endpoint", "a URL with http:// or https:// in front"),
    ("models: {path: /fer}", "/models/path", PATH),
    ("models: {path: ../fer}", "/models/path", PATH),
    ("models: {pvc: {claimName: Fer_models}}", "/models/pvc/claimName", OBJECT),
    ("ingress: {host: 'https://faces.example.com'}", "/ingress/host", HOST),
    ("ingress: {host: 'faces.example.com:443'}", "/ingress/host", HOST),
    ("ingress: {host: Faces.example.com}", "/ingress/host", HOST),
    ("gateway: {hostnames: ['faces.example.com/']}", "/gateway/hostnames/0", HOST),
    ("gateway: {grpcHostnames: ['grpc://faces.example.com']}", "/gateway/grpcHostnames/0", HOST),
    ("gateway: {parentRefs: [public]}", "/gateway/parentRefs/0", "an item such as {name: public"),
    (
        "gateway: {enabled: true, parentRefs: [{name: a}], hostnames: [a.b], grpcHostnames: [a.b]}",
        "",
        "gateway.grpcHostnames: a.b is one of gateway.hostnames too",
    ),
    ("networkPolicy: {allowFrom: [albums]}", "/networkPolicy/allowFrom/0", "an item such as {namespaceSelector:"),
    ("networkPolicy: {allowFrom: [{}]}", "/networkPolicy/allowFrom/0", "an item such as {namespaceSelector:"),
    (
        "networkPolicy: {allowFrom: [{podSelector: {matchLabels: {a: 1}}}]}",
        "/networkPolicy/allowFrom/0/podSelector/matchLabels/a",
        QUOTED,
    ),
    (
        "networkPolicy: {allowFrom: [{ipBlock: {cidr: 10.0.0.1}}]}",
        "/networkPolicy/allowFrom/0/ipBlock/cidr",
        "a range of addresses with its length",
    ),
    (
        "networkPolicy: {allowFrom: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}",
        "/networkPolicy/allowFrom/0",
        "an ipBlock alone, or selectors without one",
    ),
    ("fullnameOverride: Faces", "/fullnameOverride", "at most 40 lower-case letters, digits and -, a letter first"),
    (f"fullnameOverride: {'a' * 41}", "/fullnameOverride", "at most 40 lower-case letters"),
    ("fullnameOverride: 'on'", "", "the name on is no text to YAML: set another fullnameOverride"),
    ("priority: {className: High}", "/priority/className", OBJECT),
    ("priority: {create: true, className: high}", "", "priority: create makes a class of its own"),
    ("planCache: {create: true, existingClaim: plans}", "", "planCache: create makes a claim of its own"),
    # what one brings along
    (
        "extraVolumes: [{name: models, emptyDir: {}}]",
        "/extraVolumes/0/name",
        "a name that the chart does not use itself",
    ),
    ("extraVolumes: [{name: a, hostPath: {path: /}}]", "/extraVolumes/0/hostPath", "a volume that the restricted pod"),
    ("extraVolumes: [{name: a}]", "/extraVolumes/0", "minProperties"),
    (
        "extraVolumeMounts: [{name: a, mountPath: /tmp/x}]",
        "/extraVolumeMounts/0/mountPath",
        "a path that the chart does",
    ),
    ("extraVolumeMounts: [{name: a, mountPath: /a}]", "", "extraVolumeMounts: a is mounted at /a and is none of extra"),
    ("extraVolumes: [{name: a, emptyDir: {}}, {name: a, emptyDir: {}}]", "", "extraVolumes: a is there twice"),
    ("sidecars: [{name: server, image: 'a:1'}]", "/sidecars/0/name", "a name that the chart does not use itself"),
    ("sidecars: [{name: a, image: a}]", "/sidecars/0/image", REFERENCE),
    ("sidecars: [{name: a, image: 'a:1', env: [{name: A, value: 1}]}]", "/sidecars/0/env/0/value", VALUE),
    # what other charts call it
    ("replicaCount: 2", "/replicaCount", "set as replicas"),
    ("image: {tag: '1'}", "/image", "set as images.server, images.client, images.loadtest or images.rclone"),
    ("imagePullSecrets: []", "/imagePullSecrets", "set in images, as pullSecrets and pullPolicy"),
    ("env: []", "/env", "set as extraEnv"),
    ("nameOverride: a", "/nameOverride", "set as fullnameOverride"),
    ("memory: 4Gi", "/memory", "set in resources, as cpu and memory"),
    ("minReplicas: 4", "/minReplicas", "set in autoscaling"),
    ("volumes: []", "/volumes", "set as extraVolumes, extraVolumeMounts and sidecars"),
    ("tolerance: []", "", "additional properties 'tolerance' not allowed"),
]


@pytest.mark.parametrize(("values", "where", "message"), REFUSED)
def test_what_can_not_work_is_refused_in_a_line_that_says_what_was_meant(helm, tmp_path, values, where, message):
    (tmp_path / "values.yaml").write_text(values)
    with pytest.raises(SizingError) as refused:
        render(helm, [tmp_path / "values.yaml"])
    lines = [line for line in str(refused.value).splitlines() if message in line]
    assert lines, str(refused.value)
    assert where in lines[0]


@pytest.mark.parametrize(("name", "code"), [("1a", 1), ("a1", 0)])
def test_a_release_whose_name_begins_with_a_digit_needs_another(helm, name, code):
    done = subprocess.run([helm, "template", name, CHART], capture_output=True, text=True)
    assert done.returncode == code
    message = f"the release is called {name}, and names of Services begin with a letter: set fullnameOverride"
    assert (message in done.stderr) == (code == 1)
