"""Handwritten digits told apart by a linear classifier: from pixels, and from sparse features of them.

``python tools/classify.py FILE`` writes accuracies as JSON. Features are learnt on the training part of each fold, and
the classifier's regularisation is chosen inside of it for pixels and features alike.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, StratifiedShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

import rarefire as rf
from rarefire.penalties import L2, KLDivergence

#: Labels of the classifier that sees few.
N_LABELS = 100
GRID = {"clf__C": [0.01, 0.1, 1.0, 10.0, 100.0]}


def features(n_components: int) -> list[tuple[str, Any]]:
    """Steps from pixels to sparse features, standardised, since their mean is near zero."""
    model = rf.SparseAutoencoder(
        n_components=n_components,
        penalty=KLDivergence(target=0.1, strength=0.3),
        weight_decay=L2(3e-4),
        solver="lbfgs",
        max_iter=200,
        random_state=0,
    )
    return [("scale", MinMaxScaler()), ("sae", model), ("standardise", StandardScaler())]


REPRESENTATIONS: dict[str, list[tuple[str, Any]]] = {
    "pixels": [("scale", FunctionTransformer(lambda X: X / 16))],
    "pixels, standardised": [("standardise", StandardScaler())],
    "64 sparse features": features(64),
    "256 sparse features": features(256),
}


def accuracies(steps: list[tuple[str, Any]]) -> dict[int | None, list[float]]:
    """Held-out accuracies of ten folds, by how many labels of the training part the classifier sees; None is all."""
    X, y = load_digits(return_X_y=True)
    results: dict[int | None, list[float]] = {None: [], N_LABELS: []}
    for fold, (train, test) in enumerate(StratifiedKFold(10, shuffle=True, random_state=0).split(X, y)):
        prepare = Pipeline(steps).fit(X[train])  # without labels
        few, _ = next(StratifiedShuffleSplit(1, train_size=N_LABELS, random_state=fold).split(train, y[train]))
        for n_labels, seen in ((None, train), (N_LABELS, train[few])):
            search = GridSearchCV(Pipeline([("clf", LogisticRegression(max_iter=3000))]), GRID, cv=5)
            search.fit(prepare.transform(X[seen]), y[seen])
            results[n_labels].append(float(search.score(prepare.transform(X[test]), y[test])))
    return results


def main(target: Path) -> None:
    """Measure everything and write it."""
    rows = []
    for name, steps in REPRESENTATIONS.items():
        for n_labels, values in accuracies(steps).items():
            error = np.std(values, ddof=1) / np.sqrt(len(values))
            rows.append({"representation": name, "labels": n_labels, "accuracy": np.mean(values), "error": error})
            print(rows[-1], file=sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
