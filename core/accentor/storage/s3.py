"""An S3 bucket as object store; any server that speaks the protocol will do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from accentor.errors import NotFoundError, StorageUnavailableError
from accentor.settings import Settings
from accentor.storage.base import DEFAULT_CONTENT_TYPE, ObjectStore, check_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType

ATTEMPTS = 3
DEFAULT_REGION = "us-east-1"
"""The one region that a new bucket must not name."""
MAX_CONNECTIONS = 32
BEYOND = "InvalidRange"
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
BUCKET_THERE = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


class S3Store(ObjectStore):
    """Objects in a bucket, below a prefix.

    Parameters
    ----------
    client
        Reaches the server from here.
    public_client
        Signs links for the address that others reach the server at; it connects nowhere.
    """

    def __init__(self, client: "S3Client", public_client: "S3Client", bucket: str, prefix: str = "") -> None:
        self._client = client
        self._public = public_client
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make both clients; do so once per process, after it was started."""
        bucket, _, prefix = settings.storage_url.removeprefix("s3://").partition("/")
        client = _client(settings, settings.s3_endpoint)
        public = _client(settings, settings.s3_public_endpoint) if settings.s3_public_endpoint else client
        return cls(client, public, bucket, prefix.strip("/"))

    def put(self, key: str, data: bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> None:
        """Send the bytes in one request."""
        with self._errors(key):
            self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=data, ContentType=content_type)

    def get(self, key: str) -> bytes:
        """Fetch the bytes."""
        with self._errors(key):
            return self._client.get_object(Bucket=self._bucket, Key=self._name(key))["Body"].read()

    def get_range(self, key: str, start: int, size: int) -> bytes:
        """Fetch part of the object."""
        if size < 1:
            return b""
        span = f"bytes={start}-{start + size - 1}"
        try:
            with self._errors(key):
                return self._client.get_object(Bucket=self._bucket, Key=self._name(key), Range=span)["Body"].read()
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, ClientError) and _code(error.__cause__) == BEYOND:
                return b""
            raise

    def size(self, key: str) -> int | None:
        """Ask the server for the size."""
        try:
            with self._errors(key):
                return self._client.head_object(Bucket=self._bucket, Key=self._name(key))["ContentLength"]
        except NotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Remove the object."""
        try:
            with self._errors(key):
                self._client.delete_object(Bucket=self._bucket, Key=self._name(key))
        except NotFoundError:
            return

    def keys(self, prefix: str) -> Iterator[str]:
        """List page by page."""
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for found in page.get("Contents", []):
                    yield found["Key"].removeprefix(self._prefix)

    def url(self, key: str, *, expires_s: int) -> str | None:
        """Presign a link to the object."""
        wanted = {"Bucket": self._bucket, "Key": self._name(key)}
        with self._errors(key):
            return self._public.generate_presigned_url("get_object", Params=wanted, ExpiresIn=expires_s)

    def check(self) -> None:
        """Raise `StorageUnavailableError` unless the bucket answers."""
        try:
            with self._errors("its root"):
                self._client.head_bucket(Bucket=self._bucket)
        except NotFoundError as error:
            raise StorageUnavailableError(f"there is no bucket {self._bucket} at {self._endpoint}") from error

    def ensure_bucket(self) -> None:
        """Create the bucket if it is missing."""
        try:
            self.check()
        except StorageUnavailableError:
            self._create_bucket()

    @property
    def _endpoint(self) -> str:
        return self._client.meta.endpoint_url

    def _create_bucket(self) -> None:
        try:
            with self._errors("its root"):
                region = self._client.meta.region_name
                if region == DEFAULT_REGION:
                    self._client.create_bucket(Bucket=self._bucket)
                else:
                    place = cast("BucketLocationConstraintType", region)
                    self._client.create_bucket(
                        Bucket=self._bucket, CreateBucketConfiguration={"LocationConstraint": place}
                    )
        except StorageUnavailableError as error:
            if not isinstance(error.__cause__, ClientError) or _code(error.__cause__) not in BUCKET_THERE:
                raise

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if _code(error) in MISSING:
                raise NotFoundError(f"there is no object {key}") from error
            raise StorageUnavailableError(
                f"the bucket {self._bucket} at {self._endpoint} refuses {key}: {error}"
            ) from error
        except (BotoCoreError, OSError) as error:
            raise StorageUnavailableError(
                f"the bucket {self._bucket} at {self._endpoint} fails at {key}: {error}"
            ) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _client(settings: Settings, endpoint: str | None) -> "S3Client":
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=settings.s3_timeout_s,
        read_timeout=settings.s3_timeout_s,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=MAX_CONNECTIONS,
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=_reveal(settings.s3_access_key),
        aws_secret_access_key=_reveal(settings.s3_secret_key),
        config=config,
    )


def _reveal(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
