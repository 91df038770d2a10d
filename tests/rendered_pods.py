"""Finding one's way in rendered manifests."""


def of_kind(manifests, *kinds):
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def one(manifests, kind):
    (found,) = of_kind(manifests, kind)
    return found


def pod_specs(manifests):
    """The spec of every pod there will be, by the name of what makes it."""
    specs = {}
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            specs[name] = manifest["spec"]
        elif "template" in manifest.get("spec", {}):
            specs[name] = manifest["spec"]["template"]["spec"]
    return specs


def containers(spec):
    return [*spec.get("initContainers", []), *spec["containers"]]


def server_of(deployment):
    (server,) = [c for c in deployment["spec"]["template"]["spec"]["containers"] if c["name"] == "server"]
    return server


def volumes_of(spec):
    return {volume["name"]: volume for volume in spec.get("volumes", [])}


def mounts_of(container):
    return {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
