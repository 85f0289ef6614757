"""Pictures and sheets that an earlier atlas left in a folder, told from all other files by what they are called."""

import re
from collections.abc import Iterable
from pathlib import Path

PICTURES = "pictures"
THUMBNAILS = "thumbnails"
MADE = re.compile(
    rf"{PICTURES}/thumbnails/[0-9a-f]{{64}}\.webp"
    rf"|{PICTURES}/(?P<start>[0-9a-f]{{2}})/(?P=start)[0-9a-f]{{62}}-\d+(-where)?\.webp"
    rf"|{THUMBNAILS}/(features|images)/\d+\.webp"
)
"""Names that a build gives: by content, or by number."""


def made_before(root: Path) -> set[str]:
    """Return the names, from the folder on, of the pictures and sheets that atlases have left there."""
    found = (path for folder in (PICTURES, THUMBNAILS) for path in (root / folder).rglob("*.webp"))
    return {name for path in found if MADE.fullmatch(name := path.relative_to(root).as_posix()) and path.is_file()}


def remove_made(root: Path, names: Iterable[str]) -> None:
    """Remove what `made_before` has found, and the folders that are empty then."""
    folders = set()
    for name in names:
        (root / name).unlink(missing_ok=True)
        folders.add((root / name).parent)
    for folder in folders:
        if not any(folder.iterdir()):
            folder.rmdir()
