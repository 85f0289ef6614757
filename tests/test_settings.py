"""The settings: their limits, their secrets, how they are read, and the table in docs/settings.md."""

import json
import os

import pytest
from docs.make_settings import TARGET, render
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError

from accentor.errors import UnknownModelError
from accentor.settings import ModelSource, Settings

FIELDS = Settings.model_fields
NUMBERS = [name for name, field in FIELDS.items() if field.annotation in (int, float, int | None)]
SECRETS = [name for name, field in FIELDS.items() if "SecretStr" in str(field.annotation)]
UNITS = ("seconds", "bytes", "pixels", "jobs", "shards", "pairs", "threads", "port", "events", "deaths")
PASSWORD = "Zq7-never-shown"


@pytest.fixture(autouse=True)
def _only_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ACCENTOR_"):
            monkeypatch.delenv(name)


def test_the_table_in_the_docs_is_current():
    assert TARGET.read_text(encoding="utf-8") == render(), "run: python docs/make_settings.py"


def test_the_table_has_a_row_for_every_setting():
    rows = [line for line in render().splitlines() if line.startswith("| `ACCENTOR_")]
    assert [row.split("`")[1] for row in rows] == [f"ACCENTOR_{name.upper()}" for name in FIELDS]
    assert "| `ACCENTOR_LEASE_S` | `30.0` | seconds " in render()
    assert "| `ACCENTOR_S3_SECRET_KEY` | none | " in render()


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_described(name: str):
    assert len(FIELDS[name].description or "") > len("a few words")


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_its_unit(name: str):
    assert any(unit in FIELDS[name].description for unit in UNITS)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_bounded(name: str):
    assert FIELDS[name].metadata, "expected gt, ge, lt or le"


def test_the_defaults_are_valid_and_in_order():
    settings = Settings()
    assert settings.task_soft_limit_s < settings.task_hard_limit_s < settings.visibility_timeout_s


@pytest.mark.parametrize(
    ("soft", "hard", "visible"),
    [(100, 100, 300), (200, 100, 300), (100, 300, 300), (100, 400, 300), (300, 200, 100)],
)
def test_limits_out_of_order_are_refused(soft: int, hard: int, visible: int):
    with pytest.raises(ValidationError, match=f"given {soft}, {hard}, {visible}"):
        Settings(task_soft_limit_s=soft, task_hard_limit_s=hard, visibility_timeout_s=visible)


def test_limits_in_order_are_taken():
    settings = Settings(task_soft_limit_s=1, task_hard_limit_s=2, visibility_timeout_s=3)
    assert settings.visibility_timeout_s == 3


def test_secrets_are_those_that_ought_to_be():
    assert set(SECRETS) >= {"redis_url", "s3_access_key", "s3_secret_key", "signing_secret"}
    assert [name for name in FIELDS if name.endswith(("_secret", "_password", "_key")) and name not in SECRETS] == []


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_masked_wherever_settings_are_shown(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"ACCENTOR_{name.upper()}", f"redis://:{PASSWORD}@127.0.0.1:6379/0")
    settings = Settings()
    assert PASSWORD in getattr(settings, name).get_secret_value()
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert PASSWORD not in shown


def test_there_is_no_default_secret():
    defaults = {name: FIELDS[name].default for name in SECRETS}
    address = defaults.pop("redis_url").get_secret_value()
    assert "@" not in address
    assert set(defaults.values()) == {None}


@pytest.mark.parametrize("name", [name for name in SECRETS if name != "redis_url"])
def test_an_empty_secret_is_refused(name: str):
    with pytest.raises(ValidationError, match="is empty"):
        Settings(**{name: SecretStr("")})


def test_models_are_read_as_json(monkeypatch: pytest.MonkeyPatch):
    models = {
        "reference": {"source": "reference"},
        "resnet50": {"source": "torchvision:resnet50", "weights": "DEFAULT"},
    }
    monkeypatch.setenv("ACCENTOR_MODELS", json.dumps(models))
    settings = Settings()
    assert settings.models == {
        "reference": ModelSource(source="reference", weights=None),
        "resnet50": ModelSource(source="torchvision:resnet50", weights="DEFAULT"),
    }
    assert settings.model_source("resnet50").weights == "DEFAULT"
    with pytest.raises(UnknownModelError, match="reference, resnet50"):
        settings.model_source("vgg")


def test_models_that_are_no_json_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCENTOR_MODELS", "reference")
    with pytest.raises(SettingsError, match="models"):
        Settings()


@pytest.mark.parametrize("entry", [{}, {"source": "reference", "path": "x"}, {"source": 3}, "reference"])
def test_a_model_that_is_not_described_right_is_refused(entry: object, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCENTOR_MODELS", json.dumps({"mine": entry}))
    with pytest.raises(ValidationError, match=r"models\.mine"):
        Settings()


def test_numbers_are_read_and_checked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCENTOR_PORT", "8123")
    assert Settings().port == 8123
    monkeypatch.setenv("ACCENTOR_PORT", "70000")
    with pytest.raises(ValidationError, match="port"):
        Settings()


def test_an_error_shows_no_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCENTOR_S3_SECRET_KEY", PASSWORD)
    with pytest.raises(ValidationError) as caught:
        Settings(task_hard_limit_s=9)
    assert PASSWORD[:5] not in str(caught.value)
