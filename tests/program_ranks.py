"""What ``tests/test_parallel.py`` runs under torchrun, and fits that it makes in its own process beside it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import rarefire as rf
from rarefire import activations, penalties, schedules
from rarefire.cli import main
from rarefire.data import batch, mapped
from rarefire.errors import InputError, RunError
from rarefire.parallel import ranks

ROWS = np.random.default_rng(0).random((83, 12))
BITS = (ROWS < 0.4).astype(np.float64)
FEW = sp.csr_matrix(np.where(ROWS < 0.06, ROWS, 0))

#: Batches of 20 of 83 rows end with one of 3; those of 41 with one of 1, of which some processes have none.
EXACT: dict[str, tuple[Any, Any]] = {
    "sgd": (
        rf.SparseAutoencoder(
            7,
            solver="sgd",
            momentum=schedules.Switch(),
            learning_rate=0.3,
            batch_size=20,
            max_iter=6,
            penalty=penalties.KLDivergence(0.1, 2.0),
            random_state=1,
        ),
        ROWS,
    ),
    "adam": (
        rf.SparseAutoencoder(
            7,
            solver="adam",
            learning_rate=0.01,
            batch_size=41,
            max_iter=6,
            penalty=penalties.KLDivergence(0.1, 2.0, averaging=0.9),
            weight_decay=penalties.L1(1e-3, proximal=True),
            averaging=0.5,
            validation_fraction=0.2,
            random_state=1,
        ),
        ROWS,
    ),
    "early": (
        rf.SparseAutoencoder(
            7,
            solver="adam",
            learning_rate=0.2,
            batch_size=41,
            max_iter=50,
            early_stopping=True,
            n_iter_no_change=3,
            random_state=2,
        ),
        ROWS,
    ),
    "sparse": (
        rf.SparseAutoencoder(
            7,
            activation=activations.ReLU(),
            solver="adam",
            batch_size=20,
            max_iter=6,
            penalty=penalties.L1Activity(0.01),
            eval_every=4,
            validation_fraction=0.2,
            random_state=1,
        ),
        FEW,
    ),
    "biases": (
        rf.SparseAutoencoder(
            7,
            solver="adam",
            batch_size=41,
            max_iter=6,
            tied=True,
            penalty=penalties.TargetMeanOfBiases(0.1),
            random_state=1,
        ),
        ROWS,
    ),
    "lbfgs": (rf.SparseAutoencoder(7, solver="lbfgs", max_iter=15, random_state=1), ROWS),
    "dropout": (
        rf.SparseAutoencoder(
            7, solver="adam", dropout=0.3, input_dropout=0.2, batch_size=41, max_iter=6, random_state=1
        ),
        ROWS,
    ),
    "cd": (
        rf.BernoulliRBM(
            n_components=7,
            persistent=False,
            batch_size=41,
            n_iter=6,
            momentum=0.5,
            weight_decay=penalties.L2(1e-3),
            penalty=penalties.MeanActivity(0.1),
            positive_visible="sample",
            random_state=1,
        ),
        BITS,
    ),
    "pcd": (
        rf.BernoulliRBM(
            n_components=7,
            batch_size=20,
            n_chains=11,
            n_iter=6,
            centring=0.02,
            averaging=0.5,
            penalty=penalties.TargetMeanOfBiases(0.1),
            eval_every=4,
            validation_fraction=0.2,
            random_state=1,
        ),
        BITS,
    ),
    "gaussian": (
        rf.GaussianRBM(
            n_components=7,
            learn_variance=True,
            chain_visible="sample",
            batch_size=41,
            n_iter=6,
            penalty=penalties.RunningCrossEntropy(),
            random_state=1,
        ),
        ROWS - 0.5,
    ),
    "tuned": (
        rf.DeepBeliefNetwork(
            [rf.BernoulliRBM(n_components=6, n_iter=2), rf.BernoulliRBM(n_components=5, n_iter=2)],
            hand_over="mean",
            fine_tune="sample",
            batch_size=41,
            max_iter=4,
            weight_decay=penalties.L2(1e-3),
            random_state=1,
        ),
        BITS,
    ),
    "up-down": (
        rf.DeepBeliefNetwork(
            [rf.BernoulliRBM(n_components=6, n_iter=2), rf.BernoulliRBM(n_components=5, n_iter=2)],
            hand_over="mean",
            fine_tune="up-down",
            batch_size=41,
            max_iter=4,
            random_state=1,
        ),
        BITS,
    ),
}

IN_PARTS = {
    "lbfgs": rf.SparseAutoencoder(7, solver="lbfgs", max_iter=15, random_state=1),
    "all rows": rf.SparseAutoencoder(7, solver="adam", batch_size=None, max_iter=6, random_state=1),
    "dropped": rf.SparseAutoencoder(7, solver="adam", batch_size=None, dropout=0.5, max_iter=6, random_state=1),
}


def fitted(name: str) -> dict[str, np.ndarray]:
    """The arrays of a fit, and the numbers of its history."""
    estimator, rows = EXACT[name]
    estimator.fit(rows)
    arrays = {attribute: getattr(estimator, attribute) for attribute in estimator.parameter_names}
    arrays |= {name: getattr(estimator, name) for name in estimator.state_names if hasattr(estimator, name)}
    records = [float(value) for record in estimator.history_ for value in record.values()]
    return {**arrays, "history": np.array(records)}


def tell(folder: str, **answers: Any) -> None:
    """Leave what this process has found."""
    Path(folder, f"{ranks().rank}.json").write_text(json.dumps(answers))


def fits(folder: str) -> None:
    """All fits, each process's own results."""
    for name in EXACT:
        np.savez(Path(folder) / f"{name}-{ranks().rank}.npz", **fitted(name))


def parts(folder: str) -> None:
    """Fits of all rows at once, in parts of nine rows: every process has as many, of which some have none."""
    batch.PART_VALUES = 9 * ROWS.shape[1]
    for name, estimator in IN_PARTS.items():
        np.savez(Path(folder) / f"{name}-{ranks().rank}.npz", encoder_weight_=estimator.fit(ROWS).encoder_weight_)


def blocked(path: str | Path) -> np.ndarray:
    """Weights of a fit on a file whose rows are mixed in blocks of nine."""
    mapped.BLOCK_BYTES, mapped.MIXED_BLOCKS = 9 * ROWS[0].nbytes, 2
    rows = np.load(path, mmap_mode="r")
    assert mapped.block_rows(rows) == 9
    return rf.SparseAutoencoder(7, solver="adam", batch_size=10, max_iter=4, random_state=1).fit(rows).components_


def blocks(folder: str) -> None:
    """A fit on a file."""
    np.save(Path(folder) / f"{ranks().rank}.npy", blocked(Path(folder) / "rows.npy"))


def misuse(folder: str) -> None:
    """What only a program can do: no seed, rows of each process's own, a directory that holds something else."""
    drawn = rf.SparseAutoencoder(3, solver="adam", max_iter=2, checkpoint_dir=f"{folder}/run").fit(ROWS)
    loaded = rf.load(f"{folder}/run")
    sentences = []
    for keywords, rows in (
        ({}, ROWS[ranks().rank :]),
        ({"checkpoint_dir": f"{folder}/run"}, ROWS),
        ({"learning_rate": 1e5, "solver": "sgd"}, ROWS),
        ({"penalty": penalties.KLDivergence(0.1 + 0.1 * ranks().rank)}, ROWS),
    ):
        try:
            rf.SparseAutoencoder(3, max_iter=200, random_state=0, **keywords).fit(rows)
            sentences.append("")
        except (InputError, RunError) as error:
            sentences.append(str(error))
    tell(folder, seed=drawn.seed_, loaded=float(loaded.components_.sum()), sentences=sentences)


def command_line(folder: str, rank: str, signal_number: str, *words: str) -> None:
    """The command line, where one process is sent a signal, once, when the history in ``folder`` has twenty lines."""

    def strike() -> None:
        history = Path(folder, "history.jsonl")
        while not history.is_file() or history.read_bytes().count(b"\n") < 20:
            time.sleep(0.02)
        os.kill(os.getpid(), int(signal_number))

    if os.environ["RANK"] == rank and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        threading.Thread(target=strike, daemon=True).start()
    sys.argv = ["rarefire", *words]
    main()


def astray(folder: str, *words: str) -> None:
    """The command line, where rank 1 is in another folder, in which there are no data."""
    if os.environ["RANK"] == "1":
        os.chdir(folder)
    sys.argv = ["rarefire", *words]
    main()


if __name__ == "__main__":
    programs = (fits, parts, blocks, misuse, command_line, astray)
    {program.__name__: program for program in programs}[sys.argv[1]](*sys.argv[2:])
