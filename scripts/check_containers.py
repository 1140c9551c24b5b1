"""Checks Dockerfile, .dockerignore and docker-compose.yml as far as it can be done without an engine.

Run from the repository root. Prints each fault on one line and fails if there is one.
"""

import fnmatch
import json
import pathlib
import re
import sys
import tomllib

import yaml

ROOT = pathlib.Path(".")
SERVICE_KEYS = set(
    "image build environment volumes tmpfs read_only cap_drop security_opt ulimits network_mode restart entrypoint"
    " command depends_on ports stop_grace_period healthcheck profiles".split()
)
# What only the key service may have: who has both can open every key.
SECRET_VOLUMES = {"token", "data"}
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


def programs(text):
    """The programs of the image, by their names."""
    copied = [rest.split() for word, rest in stages(text)[-1][1] if word == "COPY"]
    binaries = [words for words in copied if words[-1].startswith("/usr/local/bin/")]
    sources = {pathlib.PurePath(source).name for words in binaries for source in words[:-1]}
    return {name for name in sources if not name.startswith("--")}


def build_faults(text):
    """Programs that are built and do not come into the image, or the other way round."""
    run = " ".join(rest for word, rest in stages(text)[0][1] if word == "RUN")
    built = set(re.findall(r"--bin (\S+)", run))
    kept = set(re.findall(r"target/release/(\S+)", run))
    carried = {name for name in programs(text) if not name.endswith(".sh")}
    for name in sorted(built | kept | carried):
        missing = [what for what, names in (("built", built), ("kept", kept), ("copied", carried)) if name not in names]
        yield from (f"{name}: is not {what}" for what in missing)


def started(service):
    """The programs that a service starts: by its lists, and in the scripts that it gives to a shell."""
    lists = [service.get("entrypoint", []), service.get("healthcheck", {}).get("test", ["CMD"])[1:]]
    words = {words[0] for words in lists if words and words[0] != "/bin/sh"}
    if service.get("entrypoint", [""])[0] == "/bin/sh":
        for line in "".join(service["command"]).splitlines():
            words.add(line.removeprefix("exec ").split()[0])
    return words


def program_faults(name, service, carried):
    for program in sorted(started(service) - carried):
        yield f"{name}: starts {program}, which the image does not have"


def values(table):
    for value in table.values():
        yield from values(value) if isinstance(value, dict) else [value]


def configuration_faults(name, service):
    """Files that a mounted configuration names, and that are nowhere in the container; what is written needs a volume."""
    volumes = [volume.rsplit(":/", 1) for volume in service.get("volumes", [])]
    mounts = [("/" + target.partition(":")[0], target.endswith(":ro")) for _, target in volumes]
    for source, _ in volumes:
        if not source.endswith(".toml"):
            continue
        configuration = tomllib.loads((ROOT / source).read_text())
        for path in values(configuration):
            if not isinstance(path, str) or not path.startswith("/") or path.startswith("/usr/lib/"):
                continue
            read_only = [ro for mount, ro in mounts if pathlib.PurePath(path).is_relative_to(mount)]
            if not read_only:
                yield f"{name}: {source} names {path}, which is on no volume"
            elif path == configuration["data_dir"] and read_only[0]:
                yield f"{name}: {source} keeps its data in {path}, which is read-only"


def secrecy_faults(name, service):
    mounted = {volume.partition(":")[0] for volume in service.get("volumes", [])}
    if "dewpoint" not in started(service):
        yield from (f"{name}: must not have the volume {volume}" for volume in sorted(mounted & SECRET_VOLUMES))


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


def compose_faults(compose, carried):
    services = compose["services"]
    for name, service in services.items():
        for key in service.keys() - SERVICE_KEYS:
            yield f"{name}: {key} is not a key that this check knows"
        yield from hardening_faults(name, service)
        yield from volume_faults(name, service, compose.get("volumes", {}))
        yield from dependency_faults(name, service, services)
        yield from program_faults(name, service, carried)
        yield from configuration_faults(name, service)
        yield from secrecy_faults(name, service)


def main():
    dockerfile = (ROOT / "Dockerfile").read_text()
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    faults = [
        *(f"Dockerfile: {fault}" for fault in dockerfile_faults(dockerfile, (ROOT / ".dockerignore").read_text())),
        *(f"Dockerfile: {fault}" for fault in build_faults(dockerfile)),
        *(f"docker-compose.yml: {fault}" for fault in compose_faults(compose, programs(dockerfile))),
    ]
    print("\n".join(faults) or "container files: no faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
