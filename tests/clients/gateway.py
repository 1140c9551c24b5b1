"""Everything that the gateway's S3 face offers, by boto3: told where the deployment's description lies."""

import sys

from store import basics, encryption, identities, multipart
from store.deployment import Deployment

deployment = Deployment(sys.argv[1])
for suite in (basics, encryption, multipart, identities):
    for name in [name for name in vars(suite) if name.startswith("shows_")]:
        getattr(suite, name)(deployment)
        print(f"{suite.__name__}: {name.removeprefix('shows_').replace('_', ' ')}")
