"""Writes what was seen as JSON Lines: one line for each frame, as soon as it is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from fer_client.video.errors import VideoError
from fer_client.video.sightings import Sighting


class TimelineFile:
    """A file of one JSON document a line. Whatever ends the process, the lines before are whole."""

    def __init__(self, path: Path) -> None:
        """Create the file, or empty it.

        Raises:
            VideoError: It cannot be written.
        """
        self._path = path
        try:
            self._file: TextIO = path.open("w", encoding="utf-8", buffering=1)  # Each line leaves at once.
        except OSError as error:
            raise self._failed(error) from error

    def add(self, sighting: Sighting) -> None:
        """Write the next line.

        Raises:
            VideoError: It cannot be written, as on a full disk.
        """
        try:
            self._file.write(json.dumps(sighting.to_dict()) + "\n")
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file. Closing twice is fine.

        Raises:
            VideoError: The last line cannot be written.
        """
        try:
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> VideoError:
        return VideoError(f"cannot write {self._path}: {error.strerror}")
