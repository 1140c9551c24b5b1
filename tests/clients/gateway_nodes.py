"""Objects through a gateway that knows several addresses of the key service: data keys are made and opened, also under a bucket
key."""

import sys

from store.deployment import Deployment

TEXT = bytes(range(256)) * 1000

deployment = Deployment(sys.argv[1])
s3 = deployment.s3()
s3.create_bucket(Bucket="nodes", CreateBucketConfiguration={"LocationConstraint": deployment.region})
for number in range(3):
    for with_bucket_key in (False, True):
        name = f"{number}-{with_bucket_key}"
        s3.put_object(Bucket="nodes", Key=name, Body=TEXT, ServerSideEncryption="aws:kms", BucketKeyEnabled=with_bucket_key)
        assert s3.get_object(Bucket="nodes", Key=name)["Body"].read() == TEXT
