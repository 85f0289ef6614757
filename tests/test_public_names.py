"""The public names: adding one is a decision, removing one breaks somebody's program."""

import accentor
import accentor.spec


def test_accentor():
    assert set(accentor.__all__) == {
        "Accentuation",
        "Feature",
        "Model",
        "Recipe",
        "accentuate",
        "load_model",
        "parse_feature",
    }


def test_spec():
    assert set(accentor.spec.__all__) == {
        "ENGINE_VERSION",
        "PRESETS",
        "BatchJob",
        "BatchSpec",
        "BatchState",
        "BatchStatus",
        "Channel",
        "Counts",
        "Direction",
        "Failure",
        "Feature",
        "JobSpec",
        "JobState",
        "JobStatus",
        "Jobs",
        "Lane",
        "LayerFeatures",
        "LayerInfo",
        "Logit",
        "ModelCard",
        "Neuron",
        "Problem",
        "Progress",
        "Recipe",
        "Result",
        "Sha256",
        "Snapshot",
        "Sum",
        "Term",
        "canonical_json",
        "check_batch_transition",
        "check_job_transition",
        "is_sha256",
        "parse_feature",
        "resolve_recipe",
        "sha256_hex",
        "state_code",
        "state_of_code",
    }


def test_engine():
    import accentor.engine

    assert set(accentor.engine.__all__) == {
        "Accentuation",
        "Model",
        "Pair",
        "StepReport",
        "accentuate",
        "accentuate_pairs",
        "inline",
        "load_model",
    }


def test_every_name_is_there():
    import accentor.engine

    for package in (accentor, accentor.spec, accentor.engine):
        for name in package.__all__:
            assert getattr(package, name) is not None
        assert len(set(package.__all__)) == len(package.__all__)
        assert set(package.__all__) <= set(dir(package))
    assert accentor.accentuate is accentor.engine.accentuate


def test_unknown_name():
    assert not hasattr(accentor, "accentuatte")
