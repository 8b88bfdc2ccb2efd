"""The command that shows what is inside of runs: show."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Show:
    """Write a page about a run, or several, and open it: scores and curves, what is answered wrong,
    and what the run makes of a sentence. One HTML file that asks nothing of any server; or, with
    --live, a page in which to type sentences of your own."""

    run_folders: Annotated[Positional[tuple[Path, ...]], arg(name="run")] = ()
    """Run folder, or several; by default the newest under runs/."""
    live: bool = False
    """Serve the page on this machine alone (127.0.0.1) until Ctrl-C: type a text or a pair, mask
    and swap tokens, blot out heads and layers."""
    port: int = 0
    """Port of --live; by default one that is free."""
    out: Path | None = None
    """File to write; by default show.html in the run folder, or in the first."""
    data_dir: Path | None = None
    """Folder with the tasks' files; by default the one that the run was trained on."""
    on_bad_row: Literal["stop", "skip"] | None = None
    """Stop at a row that cannot be read, or leave it out; by default as in training."""
    rows: int = 10_000
    """Development rows of each task, at equal distances where there are more; 0 shows no rows."""
    explain: int = 40
    """Rows of each task that the page can look into, as far as 2.9 MB have room: the worst
    mistakes, the least sure answers, and others."""
    steps: int = 24
    """Steps of integrated gradients: the more, the smaller is the error that the page shows."""
    open: bool = True
    """Open the page in the browser, where there is a screen."""

    def run(self) -> None:
        from minbert.checks import check_unused
        from minbert.files import write_text
        from multitask.commands.answer_commands import run_folder
        from multitask.inside.page import PageSettings, make_page

        folders = [run_folder(each) for each in self.run_folders or (None,)]
        settings = PageSettings(
            rows=self.rows,
            explain=self.explain,
            steps=self.steps,
            data_dir=self.data_dir,
            on_bad_row=self.on_bad_row,
        )
        if self.live:
            from multitask.inside.live import serve

            check_unused(self, "--live writes no file; leave it out", "out")
            serve(folders, settings, port=self.port, when_ready=self._open)
            return
        check_unused(self, "a file needs no port; give --live too, or leave it out", "port")
        began = time.monotonic()
        text = make_page(folders, settings)
        path = self.out or folders[0] / "show.html"
        write_text(path, text)
        size, seconds = len(text.encode()) / 1e6, time.monotonic() - began
        print(f"{path}: {size:.2f} MB, made in {seconds:.0f} s")
        self._open(path.resolve().as_uri())

    def _open(self, address: str) -> None:
        from multitask.commands.messages import open_page

        if self.open:
            open_page(address)
