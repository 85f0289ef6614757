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
        "read_metadata",
    }


def test_spec():
    assert set(accentor.spec.__all__) == {
        "EMPTY_CATALOG",
        "ENGINE_VERSION",
        "PRESETS",
        "AnyFeature",
        "BatchHeader",
        "BatchJob",
        "BatchLine",
        "BatchSpec",
        "BatchState",
        "BatchStatus",
        "Blur",
        "Catalog",
        "Channel",
        "Cosine",
        "CosinePower",
        "Counts",
        "DatasetImages",
        "DictionaryCard",
        "DictionaryFeature",
        "DictionaryFeatures",
        "DictionarySpec",
        "Direction",
        "Encoder",
        "Entry",
        "Failure",
        "Feature",
        "JobSpec",
        "JobState",
        "JobStatus",
        "Jobs",
        "KeyMaker",
        "Lane",
        "LayerFeatures",
        "LayerInfo",
        "LineJobs",
        "LinesBatch",
        "Likeness",
        "Logit",
        "ModelCard",
        "Neuron",
        "Problem",
        "Product",
        "Progress",
        "Recipe",
        "Result",
        "Sha256",
        "Snapshot",
        "Spatial",
        "Sum",
        "TargetMap",
        "Term",
        "TopK",
        "Window",
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
        "Alignment",
        "Coupling",
        "Dictionary",
        "Diversity",
        "Model",
        "Pair",
        "StepReport",
        "SweepPoint",
        "accentuate",
        "accentuate_pairs",
        "figure_grid",
        "fit_dictionary",
        "gallery",
        "inline",
        "load_dictionary",
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
