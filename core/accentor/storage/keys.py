"""Where things lie in the object store.

::

    images/<sha256>
    results/<k[:2]>/<k>/{accentuated.png, …, result.json}      k: the job's content key
    batches/<id>/spec.json
"""

RESULT = "result.json"


def image_key(sha256: str) -> str:
    """Return where an uploaded image lies."""
    return f"images/{sha256}"


def result_prefix(key: str) -> str:
    """Return the folder of a job's results."""
    return f"results/{key[:2]}/{key}"


def artefact_key(key: str, name: str) -> str:
    """Return where a file of a job's results lies."""
    return f"{result_prefix(key)}/{name}"


def result_key(key: str) -> str:
    """Return where a job's result.json lies: written last, it marks that all else is there."""
    return artefact_key(key, RESULT)


def batch_spec_key(batch_id: str) -> str:
    """Return where a batch's specification lies."""
    return f"batches/{batch_id}/spec.json"
