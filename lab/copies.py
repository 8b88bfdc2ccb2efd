"""Copies of the library that a submission's files are put into.

Behind walls, where all is read-only, a copy is links to the clean one, and once a submission is
graded it takes the clean files back and serves another: to make and remove hundreds of links for
each takes longer than many a submission computes.
"""

from __future__ import annotations

import os
import queue
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class Copy:
    """A copy in a folder of its own, `place`, beside what its sandbox is put together from."""

    def __init__(self, clean: Path, folder: Path, *, linked: bool) -> None:
        self.clean = clean
        self.place = Path(tempfile.mkdtemp(prefix="copy-", dir=folder))
        self.place.chmod(0o755)  # another user comes by
        self.root = self.place / "work"
        shutil.copytree(clean, self.root, copy_function=os.link if linked else shutil.copy2)
        self._written: list[str] = []

    def write(self, name: str, text: str) -> None:
        """Write a file that another user can read, in folders that are new if need be."""
        path = self.root / name
        self._written.append(name)
        for folder in reversed(path.relative_to(self.root).parents[:-1]):
            if not (self.root / folder).is_dir():
                (self.root / folder).mkdir()
                (self.root / folder).chmod(0o755)
        path.unlink(missing_ok=True)  # which may be one file with the clean copy's
        path.write_text(text, encoding="utf-8", newline="")
        path.chmod(0o644)

    def restore(self) -> bool:
        """Take the clean files back; False where files were added, which would stay."""
        if not all((self.clean / name).is_file() for name in self._written):
            return False
        for name in self._written:
            (self.root / name).unlink(missing_ok=True)
            os.link(self.clean / name, self.root / name)
        self._written.clear()
        return True


class Copies:
    """As many copies as are worked on at once."""

    def __init__(self, clean: Path, folder: Path, *, walls: bool) -> None:
        """Have none yet.

        Args:
            clean: what they are copies of.
            folder: where they are made.
            walls: whether nobody can write into one.
        """
        self._clean, self._folder, self._walls = clean, folder, walls
        self._free: queue.SimpleQueue[Copy] = queue.SimpleQueue()

    @contextmanager
    def one(self) -> Generator[Copy]:
        """A clean copy for one submission."""
        try:
            copy = self._free.get_nowait()
        except queue.Empty:
            copy = Copy(self._clean, self._folder, linked=self._walls)
        again = False
        try:
            yield copy
            again = self._walls and copy.restore()
        finally:
            if again:
                self._free.put(copy)
            else:
                shutil.rmtree(copy.place, ignore_errors=True)
