"""rules.py FILE: what we ask of the compose files beyond what compose and the linters ask.

FILE is what `docker-compose config --format json` printed for both files together. Prints what is wrong, a line each, and ends with 1
if there is anything.
"""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = {"raw-producer", "agg-producer", "jdbc-sink", "deribit-sim"}
CONSOLES = {"console", "akhq", "pgadmin"}
SERVERS = {"kafka", "registry", "connect", "postgres", "zipkin", "prometheus", "secrets"}


def every_container(name, service):
    """What holds for each, ours or not."""
    if service.get("cap_drop") != ["ALL"]:
        yield "cap_drop is not [ALL]"
    if service.get("security_opt") != ["no-new-privileges:true"]:
        yield "security_opt is not [no-new-privileges:true]"
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    for limit in ("cpus", "memory", "pids"):
        if limit not in limits:
            yield f"no limit of {limit}"
    if not re.fullmatch(r"no|on-failure:\d+", service.get("restart", "")):
        yield "restart goes on for ever after a wrong configuration (78): on-failure:<number>, or no"
    if "max-size" not in service.get("logging", {}).get("options", {}):
        yield "its log grows without end"
    for port in service.get("ports", []):
        if port.get("host_ip") != "127.0.0.1":
            yield f"port {port['target']} is not on loopback only"
    for needed, how in service.get("depends_on", {}).items():
        if how["condition"] == "service_started":
            yield f"does not wait until {needed} is well"
    if "pull_policy" in service or "start_interval" in service.get("healthcheck", {}):
        yield "pull_policy and start_interval: not every engine that we run on has them"
    for volume in service.get("volumes", []):
        if volume["type"] == "bind":
            if not pathlib.Path(volume["source"]).exists():
                yield f"mounts {volume['source']}, which is not there"
            if not volume.get("read_only"):
                yield f"may write to {volume['source']}"
    image = service.get("image", "")
    if "build" not in service and not re.fullmatch(r"[^@]+:[^@]*\d[^@]*", image):
        yield f"image {image!r} names no release, or a digest"
    if name not in CONSOLES | {"secrets"} | OURS and name != "connect" and "healthcheck" not in service:
        yield "nobody can tell whether it is well"


def ours(_name, service):
    """What holds for our own services beyond that."""
    if not service.get("read_only"):
        yield "its file system can be written"
    if "user" in service or "privileged" in service or "cap_add" in service:
        yield "more rights than the image gives it"


def dockerfile():
    """Each of our images ends without root and with a health check."""
    text = (ROOT / "Dockerfile").read_text()
    stages = {stage: image for image, stage in re.findall(r"^FROM (\S+) AS (\S+)$", text, re.M)}
    for name in OURS:
        if not stages.get(name, "").endswith(":nonroot"):
            yield f"Dockerfile: {name} is not made from a nonroot image"
        if f'CMD ["/usr/local/bin/{name}", "health"]' not in text:
            yield f"Dockerfile: {name} has no health check"


def versions(services):
    """In containers the same releases as without: servers/*/pom.xml."""
    image = {name: service.get("image", "") for name, service in services.items()}
    base = re.search(r"^FROM (apache/kafka:\S+)$", (ROOT / "connect/Dockerfile").read_text(), re.M)
    if base is None or base[1] != image["kafka"]:
        yield f"connect/Dockerfile is not made from {image['kafka']}"
    for part, artifact, container in (
        ("kafka", "kafka_2.13", "kafka"),
        ("registry", "apicurio-registry-app", "registry"),
        ("zipkin", "zipkin-server", "zipkin"),
    ):
        pom = (ROOT / "servers" / part / "pom.xml").read_text()
        version = re.search(rf"<artifactId>{re.escape(artifact)}</artifactId>\s*<version>([^<]+)<", pom)[1]
        if image[container].split(":")[-1] != version:
            yield f"{container}: {image[container]}, but servers/{part}/pom.xml has {version}"


def ports():
    """Every port variable is one of scripts/lib/ports.sh, with the default that it has there."""
    known = dict(re.findall(r'^    "(\w+_PORT) (\d+) [\w-]+"$', (ROOT / "scripts/lib/ports.sh").read_text(), re.M))
    if not known:
        yield "scripts/lib/ports.sh: no ports found"
    for file in ("docker-compose.yml", "docker-compose.override.yaml"):
        for name, default in re.findall(r"\$\{(\w+_PORT):-(\d+)\}", (ROOT / file).read_text()):
            if known.get(name) != default:
                yield f"{file}: {name} is {default} by default, in scripts/lib/ports.sh {known.get(name)}"


def consoles(services):
    """The consoles' own files name containers, and ports of theirs, that are there."""
    texts = {
        "config/console/console.yml": lambda text: json.dumps(yaml.safe_load(text)),
        "config/akhq/application.yml": lambda text: json.dumps(yaml.safe_load(text)),
        "config/prometheus/targets/compose.yml": lambda text: json.dumps(yaml.safe_load(text)),
        "config/pgadmin/servers.json": lambda text: "{Host}:{Port}".format(**json.loads(text)["Servers"]["1"]),
    }
    listening = {name: {port["target"] for port in service.get("ports", [])} for name, service in services.items()}
    listening["kafka"].add(19092)
    for file, parsed in texts.items():
        for host, port in re.findall(r"([a-z][\w-]+):(\d+)", parsed((ROOT / file).read_text())):
            if int(port) not in listening.get(host, ()):
                yield f"{file}: nothing listens at {host}:{port}"


def main():
    services = json.loads(pathlib.Path(sys.argv[1]).read_text())["services"]
    wrong = []
    if set(services) != OURS | CONSOLES | SERVERS:
        wrong.append(f"services: {sorted(set(services) ^ (OURS | CONSOLES | SERVERS))} are missing or unknown to rules.py")
    for name, service in services.items():
        rules = [every_container, ours] if name in OURS else [every_container]
        wrong += [f"{name}: {problem}" for rule in rules for problem in rule(name, service)]
    for rule in (dockerfile(), versions(services), ports(), consoles(services)):
        wrong += list(rule)
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
