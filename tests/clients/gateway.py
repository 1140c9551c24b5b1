"""Everything that the gateway offers, by boto3 and by both SDKs of OBS: told where the deployment's description lies."""

import sys

from store import basics, bucket_keys, configuration, encryption, identities, multipart, obs_core_sdk, obs_sdk
from store.deployment import Deployment

deployment = Deployment(sys.argv[1])
for suite in (basics, encryption, multipart, identities, obs_sdk, obs_core_sdk, bucket_keys, configuration):
    for name in [name for name in vars(suite) if name.startswith("shows_")]:
        getattr(suite, name)(deployment)
        print(f"{suite.__name__}: {name.removeprefix('shows_').replace('_', ' ')}")
