"""Recipes: published experiments, each a short file of settings, with the published figures beside ours."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from sklearn.frozen import FrozenEstimator

from rarefire.artifact import RunDirectory
from rarefire.component import Component, find, from_spec, label, to_spec
from rarefire.data.source import Source
from rarefire.errors import InputError
from rarefire.estimators.load import built, load_parts
from rarefire.estimators.refining import check_init
from rarefire.events import ArmStarted
from rarefire.parallel import alone, is_first
from rarefire.preprocess import Step, prepared
from rarefire.runs import Picture, Trained, Watch, check_run, finish, train
from rarefire.settings import OPTION_OF, apply

T = TypeVar("T")


@dataclass(frozen=True)
class Arm:
    """One training of an experiment.

    Parameters
    ----------
    name : str
        What it is called.
    source : Source
        The rows.
    estimator : SparseLearner
        What is fitted to them.
    steps : sequence of Step
        How they are prepared.
    init : str or None
        The name of an arm before it, or of any for the first arm, whose fitted machine the estimator begins with.
    """

    name: str
    source: Source
    estimator: Any
    steps: Sequence[Step] = ()
    init: str | None = None


class Recipe(Component, ABC):
    """Experiment that a document published; its arguments are what ``--set`` may change.

    Parameters
    ----------
    preset : str
        Which of ``presets``.
    seed : int
        The first seed; every random number follows from it.
    """

    #: What the user types; a title; the document that published it; and the presets' descriptions.
    name: ClassVar[str]
    title: ClassVar[str]
    document: ClassVar[str]
    presets: ClassVar[tuple[str, ...]] = ("faithful",)

    preset: str
    seed: int

    @abstractmethod
    def arms(self) -> list[Arm]:
        """All trainings; the first one is the run's own, shown on its page."""

    @abstractmethod
    def measure(self, trained: Sequence[Trained]) -> list[dict[str, Any]]:
        """The entries of ``metrics.json``, with published figures where there are any."""

    @abstractmethod
    def pictures(self, trained: Sequence[Trained], metrics: Sequence[dict[str, Any]]) -> list[Picture]:
        """Figures beside those that every run has; ``metrics`` is what :meth:`measure` gave."""


def grouped(settings: Sequence[T], trained: Sequence[Trained]) -> list[tuple[T, Sequence[Trained]]]:
    """Each setting with its fits, of recipes whose arms are every setting with every seed, in that order."""
    n = len(trained) // len(settings)
    return [(setting, trained[k * n : (k + 1) * n]) for k, setting in enumerate(settings)]


def load_all() -> None:
    """Import every recipe of this package, so that each can be found by its name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def recipe_spec(
    name: str, preset: str, source: str | None, pairs: list[tuple[str, Any]], seed: int, device: str
) -> dict[str, Any]:
    """The specification of a run of a recipe.

    A key that the recipe defines goes to the recipe, any other to its estimators.

    Raises
    ------
    InputError
        If there is no such recipe, preset or argument, or the recipe takes no other source.
    """
    load_all()
    cls = find(Recipe, name)
    if preset not in cls.presets:
        raise InputError(f"recipe {label(cls)} has no preset '{preset}' (it has: {', '.join(cls.presets)})")
    recipe = cls(preset=preset, seed=seed)
    own = set(recipe.get_params(deep=False)) - {"preset", "seed"}
    if source is not None:
        if "source" not in own:
            raise InputError(f"recipe {label(cls)} makes its own data and takes no --source")
        recipe.set_params(source=source)
    apply(recipe, [(key, value) for key, value in pairs if key.partition("__")[0] in own])
    for_estimator = [(key, value) for key, value in pairs if key.partition("__")[0] not in own]
    arms = _configured(recipe, for_estimator, device, own)
    for arm in arms:
        check_run(arm.source, list(arm.steps), arm.estimator, arm.estimator.random_state)
    first = arms[0]
    return {
        **first.estimator.spec(seed),
        "kind": "recipe",
        "recipe": {
            "name": label(cls),
            "title": cls.title,
            "document": cls.document,
            "preset": preset,
            "settings": to_spec(recipe),
            "set": [[key, to_spec(value)] for key, value in for_estimator],
            "device": device,
        },
        "data": first.source.spec(),
        "prepare": [to_spec(step) for step in first.steps],
    }


def go_on(directory: RunDirectory, spec: dict[str, Any], watch: Watch) -> None:
    """Train every arm that is not trained yet, the run's own last, then measure and finish."""
    load_all()
    part = spec["recipe"]
    for key, kind in (("settings", dict), ("set", list), ("device", str)):
        if not isinstance(part.get(key), kind):
            raise InputError(f"{directory}/spec.json has no valid '{key}' of its recipe; the run must be made again")
    recipe = built(part["settings"], Recipe, directory)
    pairs = [(key, from_spec(value)) for key, value in part["set"]]
    arms = _configured(recipe, pairs, part["device"])
    if arms[0].source.fingerprint != spec["data"]["fingerprint"]:
        raise InputError(f"the data of {directory} have changed since it began (fingerprint); begin a new run")
    trained: dict[str, Trained] = {}
    for number, arm in enumerate([*arms[1:], arms[0]], start=1):
        own = arm is arms[0]
        place = directory if own else directory.arm(arm.name)
        seed = arm.estimator.random_state
        if not own and place.complete:
            estimator, steps = load_parts(place)
            split = estimator.split(arm.source.shape[0], seed)
            one = Trained.of(estimator, steps, prepared(arm.source, steps), split)
            trained[arm.name] = replace(one, name=arm.name)
            continue
        for listener in watch.listeners:
            listener(ArmStarted(arm.name, number, len(arms)))
        if not place.exists:
            prepare = [to_spec(step) for step in arm.steps]
            data = arm.source.spec()
            place.create({**arm.estimator.spec(seed), "kind": "arm", "data": data, "prepare": prepare})
        if arm.init is not None:
            arm.estimator.set_params(init=FrozenEstimator(trained[arm.init].estimator))
        one = train(place, arm.source, arm.estimator, list(arm.steps), seed, watch)
        trained[arm.name] = replace(one, name=arm.name)
        if not own:
            place.finish(trained[arm.name].estimator.weights_bytes(trained[arm.name].steps))
    if not is_first():
        return
    in_order = [trained[arm.name] for arm in arms]
    with alone():  # what is fitted for a measurement is fitted here
        metrics = recipe.measure(in_order)
        finish(directory, in_order[0], metrics, recipe.pictures(in_order, metrics), watch)


def _configured(recipe: Recipe, pairs: Sequence[tuple[str, Any]], device: str, also: Collection[str] = ()) -> list[Arm]:
    arms = recipe.arms()
    if not arms:
        raise InputError(f"{recipe!r} trains nothing; ask for at least one machine")
    options = {**OPTION_OF, "preset": "--preset", "seed": "--seed", "source": "--source"}
    del options["validation_fraction"]  # run has no option of its own for it
    for arm in arms:
        arm.estimator.set_params(device=device)
    for key, value in pairs:
        # What refines another arm is set by what that has not: its learning rate is not the machine's.
        takers = [arm for arm in arms if key.partition("__")[0] in arm.estimator.get_params()]
        takers = [arm for arm in takers if arm.init is None] or takers or arms[:1]
        parts = [arm.estimator.get_params().get(key.partition("__")[0]) for arm in takers]
        if any(isinstance(part, Component) and part != parts[0] for part in parts[1:]):
            raise InputError(
                f"{key} cannot be set, because {key.partition('__')[0]} is what the trainings of {label(type(recipe))} "
                "differ in; train by rarefire fit instead"
            )
        for arm in takers:
            apply(arm.estimator, [(key, value)], also, options)
    by_name = {arm.name: arm.estimator for arm in arms}
    for arm in arms:
        arm.estimator.check_arguments()
        if arm.init is not None:
            check_init(arm.estimator, arm.estimator._layers(), by_name[arm.init])
    return arms
