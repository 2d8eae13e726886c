"""What is known of a recording from its header, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass

AGAIN = "Record or copy it again, or take it out of the data."
"""Remedy for a recording that is damaged or none."""


@dataclass(frozen=True, slots=True)
class Header:
    """A recording's header.

    Attributes:
        rate: Samples a second, Hz; None where it isn't known from the header alone.
        channels: How many; None where unknown.
        begin: Where the sound begins, bytes from the file's start; 0 where unknown.
        promised: Bytes of sound that it claims; None where it claims none (a placeholder).
        present: Bytes of sound that the file holds.
        frame_bytes: Bytes of one sample of all channels; 0 where unknown (compressed).
        head: What to put in place of the first `begin` bytes to make the header true; empty when it
            is.
        remark: What else is to be said of what is there.
        seconds: Length by the file's last page, where only that tells; 0 where it doesn't.
    """

    rate: float | None
    channels: int | None
    begin: int = 0
    promised: int | None = 0
    present: int = 0
    frame_bytes: int = 0
    head: bytes = b""
    remark: str = ""
    seconds: float = 0.0

    @property
    def missing_share(self) -> float:
        """Share of the sound that is claimed but not in the file, 0 to 1."""
        if not self.promised:
            return 0.0
        return max(0.0, self.promised - self.present) / self.promised

    @property
    def frames(self) -> int:
        """Samples of each channel that the sound must have at least; 0 where unknown.

        A block of a compressed form counts as one here.
        """
        return self.present // self.frame_bytes if self.frame_bytes else 0

    @property
    def note(self) -> str:
        """What the header claimed where something else was read; empty where it is true."""
        if self.remark or not self.head:
            return self.remark
        if self.promised is None:
            claim = "gives no length (its writer was a pipe, or died)"
        else:
            claim = f"claims {self._length(self.promised)}"
        return f"its header {claim}; {self._length(self.present)} are there and are read"

    def _length(self, count: int) -> str:
        if not (self.frame_bytes and self.rate):
            return f"{count} bytes"
        return f"{count / self.frame_bytes / self.rate:.4g} s"
