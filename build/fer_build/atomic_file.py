"""Files that are there as a whole or not at all."""

import tempfile
from collections.abc import Mapping
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file aside and rename it; its folder is made where there is none.

    Args:
        path: The file to write or replace. After an error it is as it was.
        content: The whole of it.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files of one folder aside, all of them, and rename them in order.

    Args:
        contents: The content by file. Whoever reads them can take the last one for the sign that all are there.
    """
    first = next(iter(contents))
    first.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=first.parent, prefix=f".{first.name}-") as aside:
        for path, content in contents.items():
            (Path(aside) / path.name).write_bytes(content)
        for path in contents:
            (Path(aside) / path.name).replace(path)
