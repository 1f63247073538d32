"""A segment of version 1: a TFRecord of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fieldstone.core.errors import UserError

from ..image_file import EmbeddedImage, Picture
from .frame import Frame, Image, Laser, parse_frame
from .protobuf_wire import WireError
from .tfrecord import records

__all__ = ["TfrecordSegment"]


class TfrecordSegment:
    """The frames of a file. UserError that names file and record for what is damaged or no perception frame."""

    def __init__(self, file: Path) -> None:
        self.source = file

    def frames(self) -> Iterator[Frame]:
        """In their order, every checksum verified."""
        for _, frame in self._parsed(verify=True):
            yield replace(frame, lasers=())  # which would hold on to the file

    def lasers(self) -> Iterator[tuple[int, Laser]]:
        """Number of the frame and laser, of all frames after each other; checksums are not verified again."""
        for number, frame in self._parsed(verify=False):
            for laser in frame.lasers:
                yield number, laser

    def picture(self, image: Image, name: str) -> Picture:
        return EmbeddedImage(self.source, *image.place, name)

    def where(self, number: int) -> str:
        """Of a frame, for messages."""
        return f"{self.source}: record {number}"

    def _parsed(self, *, verify: bool) -> Iterator[tuple[int, Frame]]:
        for record in records(self.source, verify=verify):
            try:
                yield record.number, parse_frame(record.data, record.offset)
            except WireError as error:
                raise UserError(
                    f"{self.source}: record {record.number}: {error}; Waymo's perception data set, version 1, is read"
                ) from error
