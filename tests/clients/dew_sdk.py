"""Calls every operation of DEW's official Python SDK, to which nothing is told but the endpoint, the authority's
certificate, an access key and a project. Fails if anything is answered otherwise than the SDK's models and the checks
say, or if an operation that the SDK has was not called.

    dew_sdk.py DEV_JSON

Prints what was proved of each operation: docs/dew-compat.md has the table that is made of it.
"""

import json
import sys

from dew import (
    account,
    aliases,
    data_keys,
    encryption,
    grants,
    imports,
    key_spaces,
    keys,
    keystores,
    pairs,
    rotation,
    signing,
    tags,
)
from dew.suite import Suite

GROUPS = [
    keys,
    data_keys,
    pairs,
    encryption,
    signing,
    imports,
    grants,
    tags,
    aliases,
    rotation,
    keystores,
    account,
    key_spaces,
]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        suite = Suite(json.load(file))
    for group in GROUPS:
        group.run(suite)
    json.dump(suite.table(), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
