"""Checks Dockerfile, .dockerignore and docker-compose.yml as far as it can be done without an engine.

Run from the repository root. Prints each fault on one line and fails if there is one.
"""

import fnmatch
import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(".")
SERVICE_KEYS = set(
    "image build environment volumes tmpfs read_only cap_drop security_opt ulimits network_mode restart entrypoint"
    " command depends_on ports stop_grace_period".split()
)
INSTRUCTIONS = set("FROM WORKDIR COPY RUN ENV USER EXPOSE HEALTHCHECK ENTRYPOINT CMD".split())


def instructions(text):
    """The instructions of a Dockerfile as (word, rest), continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]


def stages(text):
    """The stages of a Dockerfile: (name, instructions after FROM)."""
    found = []
    for word, rest in instructions(text):
        if word == "FROM":
            found.append((rest.partition(" AS ")[2] or None, [(word, rest)]))
        else:
            found[-1][1].append((word, rest))
    return found


def is_in_context(path, ignore_text):
    """Whether .dockerignore lets a path through: the last pattern that matches its first part decides."""
    included = True
    for pattern in filter(None, (line.partition("#")[0].strip() for line in ignore_text.splitlines())):
        if fnmatch.fnmatch(path.split("/")[0], pattern.lstrip("!")):
            included = pattern.startswith("!")
    return included


def copy_faults(rest, earlier, ignore_text):
    words = rest.split()
    options = [word for word in words if word.startswith("--")]
    sources = [word for word in words if not word.startswith("--")][:-1]
    origin = next((option.removeprefix("--from=") for option in options if option.startswith("--from=")), None)
    if origin:
        if origin not in earlier:
            yield f"COPY --from={origin}: no earlier stage has this name"
        return
    for source in sources:
        if not list(ROOT.glob(source)):
            yield f"COPY {source}: not in the repository"
        elif not is_in_context(source, ignore_text):
            yield f"COPY {source}: left out by .dockerignore"


def is_list(text):
    try:
        return isinstance(json.loads(text), list)
    except json.JSONDecodeError:
        return False


def dockerfile_faults(text, ignore_text):
    earlier = set()
    for name, content in stages(text):
        base = content[0][1].split()[0]
        if base not in earlier and not re.search(r":[\w.-]*[a-z0-9]$", base):
            yield f"FROM {base}: no tag"
        for word, rest in content:
            if word not in INSTRUCTIONS:
                yield f"{word}: not an instruction that this check knows"
            if word == "COPY":
                yield from copy_faults(rest, earlier, ignore_text)
            if word in ("ENTRYPOINT", "CMD") and not is_list(rest):
                yield f"{word}: must be a list, which runs no shell that would keep signals from the service"
        earlier.add(name)
    last = dict(stages(text)[-1][1])
    if last.get("USER", "root").split(":")[0] in ("root", "0"):
        yield "the image runs as root"
    yield from (f"the image has no {word}" for word in ("HEALTHCHECK", "ENTRYPOINT") if word not in last)


def hardening_faults(name, service):
    expected = {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "ulimits": {"core": 0},
    }
    for key, value in expected.items():
        if service.get(key) != value:
            yield f"{name}: {key} must be {value}"


def volume_faults(name, service, declared):
    for volume in service.get("volumes", []):
        source = volume.rsplit(":/", 1)[0]
        if source.startswith("./"):
            if not (ROOT / source).exists():
                yield f"{name}: {source} is mounted but not in the repository"
        elif not source.startswith("$") and source not in declared:
            yield f"{name}: the volume {source} is not declared"


def dependency_faults(name, service, services):
    for other, how in service.get("depends_on", {}).items():
        if other not in services:
            yield f"{name}: depends on {other}, which does not exist"
        elif how["condition"] == "service_completed_successfully" and services[other].get("restart") != "no":
            yield f"{name}: waits for the end of {other}, which is restarted"


def compose_faults(compose):
    services = compose["services"]
    for name, service in services.items():
        for key in service.keys() - SERVICE_KEYS:
            yield f"{name}: {key} is not a key that this check knows"
        yield from hardening_faults(name, service)
        yield from volume_faults(name, service, compose.get("volumes", {}))
        yield from dependency_faults(name, service, services)


def main():
    faults = [
        *(f"Dockerfile: {fault}" for fault in dockerfile_faults(
            (ROOT / "Dockerfile").read_text(), (ROOT / ".dockerignore").read_text())),
        *(f"docker-compose.yml: {fault}" for fault in compose_faults(
            yaml.safe_load((ROOT / "docker-compose.yml").read_text()))),
    ]
    print("\n".join(faults) or "container files: no faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
