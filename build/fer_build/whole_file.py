"""Files that are there as a whole or not at all. Used by the room's commands."""

import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes aside and renames; the folder is made if need be, and nothing half-made is left after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as aside:
        written = Path(aside) / path.name
        written.write_bytes(content)
        written.replace(path)
