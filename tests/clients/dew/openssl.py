"""The openssl command: another party for what Python's library does not know, as SM2."""

import pathlib
import subprocess
import tempfile


def openssl(command, **files):
    """What a command prints that finds these files, by their names, where it runs. It must succeed."""
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            pathlib.Path(directory, name).write_bytes(content)
        ended = subprocess.run(["openssl", *command.split()], cwd=directory, capture_output=True, check=False)
    assert ended.returncode == 0, f"openssl {command}: {ended.stdout} {ended.stderr}"
    return ended.stdout
