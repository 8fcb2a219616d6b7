"""A fitted model as a torch module."""

from __future__ import annotations

from typing import Any

import torch


class TorchModel(torch.nn.Module):
    """A model whose parameters torch knows; ``forward`` gives codes.

    Parameters
    ----------
    model : BoltzmannMachine or Autoencoder
        Its parameters are copied.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model
        for name, value in model.parameters.items():
            self.register_parameter(name, torch.nn.Parameter(value.clone()))

    @property
    def model(self) -> Any:
        """The model with the module's present parameters."""
        return self._model.with_parameters(dict(self.named_parameters()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Codes of rows, of shape (batch, n_components)."""
        return self.model.encode(x)

    def decode(self, h: torch.Tensor) -> torch.Tensor:
        """Rows from codes, of shape (batch, n_features)."""
        return self.model.decode(h)
