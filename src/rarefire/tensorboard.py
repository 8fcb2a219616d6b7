"""Training curves for TensorBoard, for those who watch there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rarefire.errors import InputError
from rarefire.events import ArmStarted, EpochEnded, Event, FitEnded, FitStarted


class TensorBoard:
    """Writes each number of an epoch's record, and the rows a second, as a scalar; fits of several in a folder each.

    What a resumed run does again takes the place of what was written before.

    Parameters
    ----------
    directory : Path
        Where event files go: ``tensorboard --logdir`` of it, or of a folder above, shows them.

    Raises
    ------
    InputError
        If the package ``tensorboard`` is not installed.
    """

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                "--log tensorboard writes with the package tensorboard, which is not installed; "
                "pip install 'rarefire[tensorboard]'"
            ) from None
        self._open, self._place = SummaryWriter, directory
        self._arm = ""
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, ArmStarted):
            self._arm = re.sub(r"[^\w.-]+", "-", event.name)
        elif isinstance(event, FitStarted):
            self.close()
            self._n_rows = event.n_rows
            # Steps from here on that an interrupted run has left are not shown.
            self._writer = self._open(str(self._place / self._arm), purge_step=event.epoch + 1, flush_secs=10)
        elif isinstance(event, EpochEnded):
            self._epoch(event)
        elif isinstance(event, FitEnded):
            self.close()

    def _epoch(self, event: EpochEnded) -> None:
        numbers = {**event.record, "rows_per_second": event.rate(self._n_rows)}
        epoch = numbers.pop("epoch")
        for name, value in numbers.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """End the file at hand."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
