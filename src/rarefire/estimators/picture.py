"""What a fitted estimator shows of itself in a notebook, below scikit-learn's diagram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from rarefire.data.source import Description


class Pictured(BaseEstimator):
    """An estimator with a picture of its features, its cost curve and its figures."""

    #: What the rows are that it was fitted on, where that is known.
    _described: Description | None = None
    history_: list[dict[str, Any]]
    components_: Any
    n_iter_: int
    cost_unit: Any

    def picture(self, shape: Sequence[int] | None = None) -> Any:
        """What a notebook shows of the fitted estimator: some of its features, the cost by epoch, and figures.

        Parameters
        ----------
        shape : (height, width) or (height, width, 3), optional
            The shape of a row where rows are images. By default rows are drawn as images only where that is known, as
            of an estimator that was loaded from a run on images; an array does not say it of its rows.

        Returns
        -------
        picture : object with ``_repr_html_``

        Raises
        ------
        InputError
            If a row is no image of that shape.
        """
        check_is_fitted(self)
        # Imported where it is used: it takes matplotlib, which fitting does not.
        from rarefire.report import compact

        components = self.components_
        n_features = components.shape[1]
        known = compact.described(self._described, getattr(self, "feature_names_in_", None), n_features)
        description = known if shape is None else compact.as_images(shape, n_features)
        return compact.Picture(
            compact.boxed(
                compact.note(self._figures()),
                compact.features(components, description),
                compact.cost_curve(self.history_, self.cost_unit),
            )
        )

    def _figures(self) -> str:
        """Units, how many are active and the number of iterations, in one line; the curve tells the cost."""
        from rarefire.report import number

        n_units, last = len(self.components_), {key: value for record in self.history_ for key, value in record.items()}
        parts = [f"{n_units:,} unit{'s' if n_units > 1 else ''}"]
        if "active_mean" in last:
            parts.append(f"{number(last['active_mean'])} active on a row on average")
        if self.n_iter_:  # partial_fit counts none
            parts.append(f"{number(self.n_iter_)} iteration{'' if self.n_iter_ == 1 else 's'}")
        return " · ".join(parts)

    def _html_repr(self) -> str:
        """scikit-learn's diagram, and below it the picture where there is something to show."""
        diagram: str = super()._html_repr()
        return diagram + self.picture().html if self.__sklearn_is_fitted__() else diagram
