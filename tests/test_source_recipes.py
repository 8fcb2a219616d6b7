"""The recipes of the autoencoder: what they measure against other ways to compute it, on small trainings."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

import rarefire as rf
from rarefire import recipes
from rarefire.artifact import RunDirectory
from rarefire.data.fetch import locate
from rarefire.errors import InputError, NotAtHand
from rarefire.metrics.gabor import edge_likeness
from rarefire.preprocess import fit_steps, prepared
from rarefire.recipes.kl import KL
from rarefire.recipes.patches import Patches, rank_correlations
from rarefire.recipes.strokes import Strokes
from rarefire.recipes.structure import Structure, explained_by_pca
from rarefire.recipes.words import KINDS, Texts, Words, best_labels, telling_words, told, words_of_training
from rarefire.runs import Trained, Watch

TOPICS = ("ship sea sailor captain storm", "court judge trial lawyer jury", "goal team match coach ball")


def trained(arm):
    steps = list(arm.steps)
    split = arm.estimator.split(arm.source.shape[0], arm.estimator.random_state)
    fit_steps(steps, arm.source.subset(split.train))
    rows = prepared(arm.source, steps)
    return Trained.of(arm.estimator.fit_source(rows, split, seed=arm.estimator.random_state), steps, rows, split)


@pytest.fixture
def text(tmp_path):
    """300 documents, each of words of one topic and some that all have."""
    rng = np.random.default_rng(0)
    lines = []
    for row in range(300):
        words = [*rng.choice(TOPICS[row % 3].split(), 3, replace=False), *rng.choice(list("xyz"), 1), "the", "film"]
        lines.append(" ".join(rng.permutation(words)))
    path = tmp_path / "films.txt"
    path.write_text("\n".join(lines))
    return path


def finish(name, settings, directory, source=None):
    spec = recipes.recipe_spec(name, "faithful", source, settings, 0, "cpu")
    run = RunDirectory(directory)
    with run.locked():
        run.create(spec)
        recipes.go_on(run, spec, Watch())
    return {entry["name"]: entry for entry in run.metrics()}


@pytest.mark.slow
def test_patches_end_to_end(tmp_path):
    settings = [("repeats", 1), ("n_patches", 400), ("max_iter", 30), ("n_components", 6), ("check_gradient", True)]
    entries = finish("patches", settings, tmp_path / "run")
    assert entries["gradient_gap"]["value"] < 1e-7
    assert entries["mean_rate"]["published"] == 0.01
    fitted = rf.load(tmp_path / "run").named_steps["estimator"]
    assert entries["edges"]["value"] == edge_likeness(fitted.optimal_inputs(), (8, 8)).share
    assert {"edges_plain", "norm_correlation_plain"} <= set(entries)
    figures = {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")}
    assert {"optimal-whitened", "optimal-plain", "patches", "correlations", "optimal_inputs"} <= figures


def test_whitened_and_plain_patches_are_of_the_same_places():
    arms = Patches(n_patches=200, repeats=2).arms()
    assert [arm.name for arm in arms] == ["whitened-0", "whitened-1", "plain-0", "plain-1"]
    whitened, plain = (arm.source.rows(slice(None)) for arm in (arms[0], arms[2]))
    # The whitening filter is a band-pass, so whitened and plain contrasts go together where the places are the same.
    contrasts = whitened.std(axis=1), plain.std(axis=1)
    assert spearmanr(*contrasts).statistic > 0.6
    assert abs(spearmanr(contrasts[0], np.roll(contrasts[1], 1)).statistic) < 0.3


def test_rank_correlations_are_spearmans():
    one = trained(Patches(n_patches=300, repeats=1, max_iter=20, n_components=3).arms()[0])
    rows = one.train.rows(slice(None))
    patches = rows - rows.mean(axis=1, keepdims=True)
    norms, w = np.linalg.norm(patches, axis=1), one.estimator.encoder_weight_
    codes, found = one.estimator.transform(rows), rank_correlations(one)
    for unit in range(3):
        cosine = patches @ w[unit] / (norms * np.linalg.norm(w[unit]))
        expected = {"cosine_correlation": cosine, "norm_correlation": norms}
        for name, other in expected.items():
            for end, chosen in (("", norms > 0), ("_towards", cosine > 0)):
                got = found[f"{name}{end}"][unit]
                assert got == pytest.approx(spearmanr(codes[chosen, unit], other[chosen]).statistic, abs=1e-9)


def test_the_curve_of_the_divergence_is_lowest_at_its_target():
    recipe = KL(max_iter=60, n_components=5)
    entries = {entry["name"]: entry for entry in recipe.measure([trained(recipe.arms()[0])])}
    assert entries["kl_lowest_at"]["within"]
    assert entries["kl_lowest"]["within"]
    q = 1e-6
    assert entries["kl_near_0"]["value"] == pytest.approx(0.2 * np.log(0.2 / q) + 0.8 * np.log(0.8 / (1 - q)))
    assert entries["kl_near_1"]["value"] > entries["kl_near_0"]["value"] > 2
    assert entries["unit_rate_median"]["value"] == pytest.approx(0.2, abs=0.03)


def test_explained_variances():
    arms = {arm.name: arm for arm in Structure(n_samples=400, max_iter=15, n_sparse=20, n_bottleneck=10).arms()}
    assert set(arms) == {"patches-sparse", "patches-bottleneck", "noise-sparse", "noise-bottleneck"}
    patches, noise = (arms[f"{kind}-sparse"].source.rows(slice(None)) for kind in ("patches", "noise"))
    assert patches.std() == pytest.approx(1)
    np.testing.assert_allclose(noise.std(axis=0), patches.std(axis=0), rtol=0.25)
    off = np.corrcoef(noise.T)[~np.eye(100, dtype=bool)]
    assert np.abs(off).max() < 5 / np.sqrt(400)
    one = trained(arms["patches-sparse"])
    train, held_out = one.train.rows(slice(None)), one.held_out.rows(slice(None))
    pca = PCA(10).fit(train)
    rest = ((held_out - pca.inverse_transform(pca.transform(held_out))) ** 2).sum()
    share = 1 - rest / ((held_out - train.mean(axis=0)) ** 2).sum()
    assert explained_by_pca(one, 10) == pytest.approx(share, rel=1e-6)


def test_strokes_take_the_digits_at_hand(monkeypatch):
    def without(*_):
        raise NotAtHand("MNIST is not at hand")

    monkeypatch.setattr("rarefire.recipes.strokes.MNIST.open", without)
    (arm,) = Strokes().arms()
    assert arm.source.description.name == "digits"
    assert arm.estimator.n_components == 16
    if locate("mnist/train-images-idx3-ubyte.gz") is None:
        pytest.skip("MNIST is not at hand; that it is preferred is tested where it is")
    monkeypatch.undo()
    (arm,) = Strokes().arms()
    assert arm.source.shape == (10000, 784)
    assert arm.estimator.n_components == 196


def test_words_of_own_text(tmp_path, text):
    settings = [("repeats", 1), ("max_iter", 3), ("n_components", 4)]
    entries = finish("words", settings, tmp_path / "run", source=str(text))
    assert {f"{kind}_{name}" for kind in KINDS for name in ("zeros", "cv_cost", "dead", "coherence")} <= set(entries)
    assert not any("published" in entry for entry in entries.values())  # which are for film plots
    assert not any("label" in name for name in entries)
    with pytest.raises(InputError, match="no text file"):
        recipes.recipe_spec("words", "faithful", "films.npy", [], 0, "cpu")


def test_a_text_without_words_to_tell_by_is_refused_before_training(tmp_path):
    path = tmp_path / "same.txt"
    path.write_text("the same words again\n" * 40)
    with pytest.raises(InputError, match="fewer than two words"):
        recipes.recipe_spec("words", "faithful", str(path), [("repeats", 1)], 0, "cpu")


def test_units_are_told_by_words_and_labels(text):
    lines = text.read_text().splitlines()
    labels = [{str(row % 3), "any"} for row in range(300)]
    texts = Texts(lines, labels, "films")
    recipe = Words(source=str(text), n_components=6, repeats=1, max_iter=60)
    arm = recipe.arms()[-1]  # rectified
    one = trained(arm)
    rows = one.estimator.validation_indices_
    train = np.setdiff1d(np.arange(300), rows)
    vocabulary = words_of_training(texts, train).description.feature_names
    assert one.train.description.feature_names == vocabulary
    assert set(vocabulary) == {word for line in (lines[row] for row in train) for word in line.split() if len(word) > 1}

    chosen = [[vocabulary[column] for column in top] for top in telling_words(one)]
    for words in chosen:
        assert not {"the", "film"} & set(words)  # in every document
    names, precision, share = best_labels(one, texts)
    assert set(names) <= {"0", "1", "2"}  # "any" is on all documents, so nothing predicts it better than its share
    # A unit that tells a topic has that topic's words first.
    assert precision.max() > 0.9
    for one_unit in told(one, texts):
        if one_unit.precision > 0.9:
            assert one_unit.words[0] in TOPICS[int(one_unit.label)].split()
    assert share == pytest.approx([np.mean([row % 3 == int(name) for row in rows]) for name in names])


def test_what_was_published_and_hoped_for_stands_beside_film_plots():
    if locate("movies/movies.csv.gz") is None:
        pytest.skip("the film plots are not at hand")
    recipe = Words(repeats=1, max_iter=1, n_components=8)
    entries = {entry["name"]: entry for entry in recipe.measure([trained(arm) for arm in recipe.arms()])}
    assert entries["rectified_zeros"]["published"] == 0.10
    assert entries["penalised_zeros"]["published"] == 0.56
    sparse, dense = (entries[f"{kind}_cv_cost"]["value"] for kind in ("sparse", "dense"))
    assert entries["sparse_cv_cost"]["within"] is (sparse <= dense)
    assert 0 < entries["dense_label_share"]["value"] < 1
