"""Where things lie in the object store.

::

    images/<sha256>
    results/<k[:2]>/<k>/{accentuated.png, …, result.json}      k: the job's content key
    results/<k[:2]>/<k>/scan.zip                               what was found in a shard of a scan
    batches/<id>/spec.json
    batches/<id>/blocks/000000.jsonl.gz                        the lines of a batch of JSON Lines, in order
    batches/<id>/skipped.jsonl                                 those that were wrong and left out
    batches/<id>/shards/000000.zip                             a shard of a scan of which not all images could be read
    models/<digest>.json                                       the card of the model a batch was submitted for
    uploads/<sha256>                                           a file that a dictionary is to be made from
    dictionaries/<name>/<version>/features.{npy,safetensors}   its numbers, as they were given; none for channels
    dictionaries/<name>/<version>/table.json                   labels and statistics of its features
    dictionaries/<name>/<version>/scans-<id>                   the cards of scans of its features
    dictionaries/<name>/<version>/card.json                    written last: it marks that all else is there
    datasets/<name>/status.json                                how far the newest version is
    datasets/<name>/<version>/rows/000000.jsonl.gz             its index, in order
    datasets/<name>/<version>/order                            where in it an image is, by sha256; none for uploads
    datasets/<name>/<version>/{skipped,duplicates}.jsonl.gz    members that are not in it
    datasets/<name>/<version>/card.json                        written last: it marks that all else is there
    datasets/<name>/<version>/scans/<id>/batch.json            which batch runs a scan, or has run it
    datasets/<name>/<version>/scans/<id>/{features,top,…}.parquet
    datasets/<name>/<version>/scans/<id>/card.json             written last: it marks that all else is there
    atlases/<id>/site/index.html …                             the published site
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


def batch_prefix(batch_id: str) -> str:
    """Return what the keys of everything that belongs to one batch alone begin with."""
    return f"batches/{batch_id}/"


def block_key(batch_id: str, number: int) -> str:
    """Return where a block of a batch's lines lies."""
    return f"{batch_prefix(batch_id)}blocks/{number:06d}.jsonl.gz"


def skipped_key(batch_id: str) -> str:
    """Return where the faults of a batch's lines that were left out lie."""
    return f"{batch_prefix(batch_id)}skipped.jsonl"


def shard_key(key: str) -> str:
    """Return where what was found in a shard of a scan lies."""
    return artefact_key(key, "scan.zip")


def unread_shard_key(batch_id: str, job: int) -> str:
    """Return where a shard lies of which not all images could be read: it is this batch's alone."""
    return f"{batch_prefix(batch_id)}shards/{job:06d}.zip"


def card_key(digest: str) -> str:
    """Return where the card of the model with this digest lies."""
    return f"models/{digest}.json"


DICTIONARIES = "dictionaries/"
DATASETS = "datasets/"
OWN_FOLDERS = frozenset(
    {"images", "results", "batches", "models", "uploads", "dictionaries", "datasets", "atlases", ".writing"}
)
"""Folders of the store that are the service's own."""


UPLOADS = "uploads/"


def upload_key(sha256: str) -> str:
    """Return where an uploaded file lies until something is made from it."""
    return f"{UPLOADS}{sha256}"


def is_upload_key(key: str) -> bool:
    """Tell whether a key is that of an uploaded file."""
    return key.startswith(UPLOADS)


def atlas_prefix(atlas_id: str, part: str = "") -> str:
    """Return what the keys of an atlas, or of a part of it, begin with."""
    return f"atlases/{atlas_id}/{part}"


def dictionary_prefix(name: str, version: str = "") -> str:
    """Return what the keys of a dictionary, or of one version of it, begin with."""
    return f"{DICTIONARIES}{name}/{version}/" if version else f"{DICTIONARIES}{name}/"


def dictionary_key(name: str, version: str, part: str) -> str:
    """Return where a part of a dictionary's version lies."""
    return f"{dictionary_prefix(name, version)}{part}"


def dataset_prefix(name: str, version: str = "") -> str:
    """Return what the keys of a dataset, or of one version of it, begin with."""
    return f"{DATASETS}{name}/{version}/" if version else f"{DATASETS}{name}/"


def dataset_key(name: str, version: str, part: str) -> str:
    """Return where a part of a dataset's version lies."""
    return f"{dataset_prefix(name, version)}{part}"


def rows_key(name: str, version: str, number: int) -> str:
    """Return where a block of a dataset's rows lies."""
    return dataset_key(name, version, f"rows/{number:06d}.jsonl.gz")


def dataset_status_key(name: str) -> str:
    """Return where it is told how far the newest version of a dataset is."""
    return f"{dataset_prefix(name)}status.json"
