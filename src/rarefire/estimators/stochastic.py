"""What estimators with sampled hidden units share: measuring with samples and with means."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from rarefire.data.source import Source
from rarefire.errors import InputError
from rarefire.estimators.base import SparseLearner
from rarefire.estimators.mapping import measured_rows
from rarefire.metrics import metric
from rarefire.metrics.activity import active_count, unit_activity
from rarefire.parallel import resolve_device
from rarefire.random import Generator
from rarefire.types import rows_tensor, tensor_of
from rarefire.units import Bernoulli, Units

HALF_STEPS = ("mean", "sample")


class StochasticLearner(SparseLearner):
    """Estimator with binary hidden units that are sampled: Boltzmann machines, alone and stacked."""

    @property
    @abstractmethod
    def visible_units(self) -> Units:
        """The law of the visible layer."""

    @abstractmethod
    def _up(self, model: Any, v: torch.Tensor, generator: Generator | None) -> torch.Tensor:
        """The highest units' states, of shape (n, hidden): samples, or means without a generator."""

    @abstractmethod
    def _way(self, model: Any, v: torch.Tensor, generator: Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows on their way up and down, by samples, or by means without a generator.

        Gives the highest units' states, of shape (n, hidden), and the input of the visible units, (n, n_features).
        """

    def _free_energies(self, model: Any, v: torch.Tensor) -> Any:
        """F(v) of each row, where the model has one."""
        return None

    @abstractmethod
    def score_samples(self, X: Any) -> Any:
        """The score of each row, of shape (n_samples,); higher is better."""

    @property
    def cost_unit(self) -> str:
        """What the visible units measure a reconstruction in."""
        return self.visible_units.cost_unit

    def _units_called(self) -> str:
        return "binary units"

    def _rate_range(self) -> tuple[float, float]:
        return Bernoulli.support

    def _costs(self, model: Any, v: torch.Tensor, generator: Generator) -> dict[str, Any]:
        """Cost with sampled hidden units, with their means, and the sample, of rows of shape (n, n_features)."""
        h, sampled = self._way(model, v, generator)
        _, mean_field = self._way(model, v, None)
        return {
            "cost": model.visible.cost(v, sampled).mean().item(),
            "cost_mean_field": model.visible.cost(v, mean_field).mean().item(),
            "h": h,
        }

    def _record(
        self,
        model: Any,
        train: torch.Tensor,
        held_out: torch.Tensor | None,
        generator: Generator,
    ) -> dict[str, Any]:
        active = active_count((self._up(model, train, generator) > 0.5).cpu().numpy())
        record = {"active_mean": active.mean, "active_max": active.maximum}
        if held_out is not None:
            costs = self._costs(model, held_out, generator)
            record |= {"validation_cost": costs["cost"], "validation_cost_mean_field": costs["cost_mean_field"]}
            if (energies := self._free_energies(model, held_out)) is not None:
                record["free_energy_gap"] = (energies.mean() - self._free_energies(model, train).mean()).item()
        return record

    def measure(self, train: Source, held_out: Source | None) -> list[dict[str, Any]]:
        """Costs, activity and free energy on all rows of both parts, as entries of ``metrics.json``."""
        model = self.fitted_model(torch.float64, resolve_device(self.device))
        generator = Generator(self.seed_, "metrics", device=model.device)
        parts: dict[str, dict[str, Any]] = {}
        for name, source in (("cost", train), ("cv_cost", held_out)):
            if source is None:
                continue
            sums: dict[str, float] = {}
            # A number each: arrays that were kept would lie between those that are freed, and memory would grow.
            total, most = 0.0, 0.0
            for rows in source.batches(measured_rows(model)):
                v = tensor_of(rows, model.device).to(torch.float64)
                costs = self._costs(model, v, generator)
                counts = costs.pop("h").sum(dim=1)
                total, most = total + counts.sum().item(), max(most, counts.max().item())
                if (energies := self._free_energies(model, v)) is not None:
                    costs["free_energy"] = energies.mean().item()
                for key, value in costs.items():
                    sums[key] = sums.get(key, 0.0) + value * len(rows)
            parts[name] = {key: value / source.shape[0] for key, value in sums.items()}
            parts[name] |= {"active_mean": total / source.shape[0], "active_max": most}
        entries = []
        for name, part in parts.items():
            rows_of = "training" if name == "cost" else "held-out"
            entries += [
                metric(
                    name,
                    part["cost"],
                    self.cost_unit,
                    f"reconstruction cost of {rows_of} rows, hidden units sampled",
                ),
                metric(
                    f"{name}_mean_field",
                    part["cost_mean_field"],
                    self.cost_unit,
                    f"reconstruction cost of {rows_of} rows, hidden units at their probabilities",
                ),
            ]
        if "free_energy" in parts.get("cv_cost", {}):
            gap = parts["cv_cost"]["free_energy"] - parts["cost"]["free_energy"]
            explanation = "mean free energy of held-out rows minus that of training rows; far above 0 is overfitting"
            entries.append(metric("free_energy_gap", gap, "nats", explanation))
        units = unit_activity(self.codes_and_active(rows) for rows in train.any_batches())
        return [
            *entries,
            metric(
                "active_mean", parts["cost"]["active_mean"], "units", "hidden units sampled on, mean over training rows"
            ),
            metric(
                "active_max", parts["cost"]["active_max"], "units", "hidden units sampled on, most on any training row"
            ),
            metric("dead_units", units.dead.sum(), "units", "never E[h|v] > 0.5 on any training row"),
            metric("always_on_units", units.always_on.sum(), "units", "E[h|v] > 0.5 on every training row"),
        ]

    def codes_and_active(self, rows: Any) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """E[h|v] of shape (n_rows, n_components), and where it exceeds 0.5."""
        dtype = torch.float64 if rows.dtype == np.float64 else torch.float32
        model = self.encoding_model(dtype, resolve_device(self.device), sparse=sp.issparse(rows))
        codes = model.encode(rows_tensor(rows, model.device)).cpu().numpy()
        return codes, codes > 0.5

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of :meth:`score_samples` over the rows of ``X``; higher is better."""
        return float(self.score_samples(X).mean())

    def reconstruct(self, X: Any, *, hidden: str = "mean") -> Any:
        """E[v | h] on the way down from the hidden units of each row, through all layers where there are several.

        Parameters
        ----------
        X : array-like, SciPy sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The rows.
        hidden : {"mean", "sample"}
            Whether hidden units hand on their probabilities or samples.

        Returns
        -------
        means : ndarray or torch.Tensor of shape (n_samples, n_features)
            Probabilities where visibles are binary.
        """
        if hidden not in HALF_STEPS:
            raise InputError(f"hidden={hidden!r} is unknown; use one of 'mean', 'sample'")

        def around(model: Any, rows: torch.Tensor) -> torch.Tensor:
            stream = self._stream(rows.device) if hidden == "sample" else None
            return model.visible.mean(self._way(model, rows, stream)[1])

        return self._map_rows(X, around)

    def _stream(self, device: torch.device) -> Generator:
        """The random numbers of calls after the fit: for each kind of device one stream, which the seed begins."""
        streams: dict[str, Generator] = self.__dict__.setdefault("_streams", {})
        if device.type not in streams:
            streams[device.type] = Generator(self.seed_, "after fit", device=device)
        return streams[device.type]
