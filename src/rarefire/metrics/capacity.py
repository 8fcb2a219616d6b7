"""How many hidden units data can support."""

from __future__ import annotations


def suggested_components(bits: float, n_samples: int, n_features: int) -> int:
    """A first guess of the number of hidden units: bits · (n_samples / 10) / n_features, rounded.

    Each training row constrains a model by as many bits as a good model needs to describe it; a tenth of the rows
    is taken as a margin against redundancy, and each hidden unit brings n_features weights to be constrained.

    Parameters
    ----------
    bits : float
        Bits that a good model needs to describe one row.
    n_samples : int
        Number of training rows.
    n_features : int
        Weights of each hidden unit.

    Raises
    ------
    ValueError
        If an argument is not positive.

    Notes
    -----
    Source: Hinton (2010), A practical guide to training restricted Boltzmann machines, section 12, in the form
    that document 002 uses.

    Examples
    --------
    Lines in a 9×9 image, 9 bits a direction, 3000 samples:

    >>> suggested_components(bits=18, n_samples=3000, n_features=81)
    67
    """
    if min(bits, n_samples, n_features) <= 0:
        raise ValueError("bits, n_samples and n_features must be positive")
    return max(1, round(bits * n_samples / 10 / n_features))
