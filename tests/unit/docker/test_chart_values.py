"""values.schema.json: what cannot work is refused by helm, before anything reaches a cluster."""

import json

import jsonschema
import pytest
import yaml

from fer_sizing.chart import CHART, render
from fer_sizing.errors import SizingError

REFUSED = {
    "variant=tpu": "variant",
    "replica=2": "replica",
    "images.server.tag=latest": "tag",
    "images.server.digest=sha256:beef": "digest",
    "resources.cpu=2.5": "cpu",
    "sharedMemory=lots": "sharedMemory",
    "probes.liveness.timeoutSeconds=1": "timeoutSeconds",
    "shutdown.preStopSeconds=0": "preStopSeconds",
    "models.source=oci": "reference",
    "models.source=pvc": "claimName",
    "models.source=s3": "bucket",
    "models.oci.reference=registry.example.com/models:latest": "reference",
    "ingress.enabled=true": "host",
    "gateway.enabled=true": "parentRefs",
    "autoscaling.kind=vpa": "kind",
    "autoscaling.targets.busyFraction=1.5": "busyFraction",
    "pools.L4.replicas=1": "L4",
    "pools.l4.variant=cpu": "variant",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_can_not_work_is_refused(helm, setting):
    with pytest.raises(SizingError, match=REFUSED[setting]):
        render(helm, [], settings=[setting])


def test_an_autoscaler_needs_room(helm):
    with pytest.raises(SizingError, match="minReplicas 5 is more than maxReplicas 3"):
        render(helm, [], settings=["autoscaling.enabled=true,autoscaling.minReplicas=5,autoscaling.maxReplicas=3"])


def test_every_value_is_in_the_schema_and_every_object_is_closed():
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) == set(values) | {"global"}
    jsonschema.validate(values, schema)
    closed = [node for node in objects(schema) if "properties" in node and node.get("type") == "object"]
    assert len(closed) > 20
    assert all(node["additionalProperties"] is False for node in closed)


def objects(node):
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in ("if", "then", "allOf"):
                yield from objects(value)
    elif isinstance(node, list):
        for item in node:
            yield from objects(item)
