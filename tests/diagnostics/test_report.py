import html.parser
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.diagnostics.evidence import Estimate
from keras_mimo.diagnostics.evidence import luck
from keras_mimo.diagnostics.verdicts import DOCS

ROOT = Path(__file__).parents[2]
CLASSES = 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WIDTHS = {"clear": 6, "faint": 5, "other": 4}


def samples(number, seed, strengths=(2.5, 1.2, 1.2)):
    random = np.random.default_rng(seed)
    y = random.integers(0, CLASSES, number)
    x = {}
    for (name, width), strength in zip(WIDTHS.items(), strengths, strict=True):
        hint = strength * np.eye(width)[y]
        x[name] = (hint + random.normal(size=hint.shape)).astype("float32")
    return x, y


TRAIN = samples(300, seed=1)
TEST = samples(400, seed=2)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    encoders = {
        name: keras.Sequential(
            [keras.Input((width,)), layers.Dense(8, activation="relu")]
        )
        for name, width in WIDTHS.items()
    }
    model = keras_mimo.late_fusion(encoders, CLASSES)
    model.compile(keras.optimizers.Adam(0.02), LOSS, combiner="sum")
    model.fit(*TRAIN, epochs=12, batch_size=50, verbose=0)
    return model


@pytest.fixture
def heads(model):
    """The layers that end in logits, with their weights put back after."""
    found = {name: model.get_layer(f"{name}_head") for name in WIDTHS}
    before = {name: head.get_weights() for name, head in found.items()}
    yield found
    for name, head in found.items():
        head.set_weights(before[name])


def report_of(model, x=TEST[0], y=TEST[1], **options):
    return keras_mimo.modality_report(model, x, y, verbose=0, **options)


def kinds(report):
    return [(verdict.kind, verdict.modality) for verdict in report.verdicts]


def made(functions, weights=None):
    """A model of logits that are given, each changed by a layer.

    Its fused output is their sum, with weights.
    """
    weights = weights or dict.fromkeys(functions, 1.0)
    inputs = {k: keras.Input((CLASSES,), name=k) for k in functions}
    outputs = {k: layer(inputs[k]) for k, layer in functions.items()}
    weighted = [layers.Rescaling(weights[k])(z) for k, z in outputs.items()]
    fused = layers.Add()(weighted)
    return keras_mimo.MultimodalModel(inputs, {"fused": fused, **outputs})


def logits(y, right, seed, size=2.0):
    """Logits that get a share of the labels right, but for some noise."""
    random = np.random.default_rng(seed)
    wrong = (y + random.integers(1, CLASSES, len(y))) % CLASSES
    said = np.where(random.uniform(size=len(y)) < right, y, wrong)
    noise = random.normal(scale=0.6, size=(len(y), CLASSES))
    return (size * (np.eye(CLASSES)[said] + noise)).astype("float32")


LABELS = np.random.default_rng(0).integers(0, CLASSES, 400)


def test_figures_are_those_of_the_predictions(model):
    x, y = TEST
    weights = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    report = report_of(model, sample_weight=weights)
    figures = json.loads(json.dumps(report.to_dict()))
    right = {
        k: z.argmax(1) == y for k, z in model.predict(x, verbose=0).items()
    }
    accuracies = {k: np.average(r, weights=weights) for k, r in right.items()}
    assert figures["fused"]["accuracy"] == pytest.approx(accuracies["fused"])
    for name in WIDTHS:
        alone, others = figures["alone"][name], [n for n in WIDTHS if n != name]
        assert alone["accuracy"] == pytest.approx(accuracies[name])
        lost = {k: np.zeros_like(v) if k == name else v for k, v in x.items()}
        z = model.predict(lost, verbose=0)["fused"]
        assert figures["lost"][name]["accuracy"] == pytest.approx(
            np.average(z.argmax(1) == y, weights=weights)
        )
        only = right[name] & ~right[others[0]] & ~right[others[1]]
        only = np.flatnonzero(only & (weights > 0))
        assert figures["only_right"][name] == only.tolist()
        part = report.contributions.sample_parts[name]
        assert np.average(part, weights=weights) == pytest.approx(
            figures["parts"][name]
        )
    assert figures["num_samples"] == np.count_nonzero(weights)


def test_a_sound_model_gets_no_verdict(model):
    report = report_of(model, probe=TRAIN)
    assert report.verdicts == []
    assert "Nothing in these figures asks for a change." in str(report)
    assert set(report.probe) == set(WIDTHS)


def test_a_starved_modality_is_named(model, heads):
    heads["faint"].set_weights([0 * w for w in heads["faint"].get_weights()])
    report = report_of(model)
    # The others may or may not stand in for each other.
    lost = [kind for kind in kinds(report) if kind[0] == "lost"]
    assert kinds(report) == [("silent", "faint"), *lost]
    # A probe of its encoder tells that the data are not to blame.
    report = report_of(model, probe=TRAIN)
    assert kinds(report) == [("starved", "faint"), *lost]
    assert "penalty" in report.verdicts[0].advice


def test_a_modality_of_noise_is_silent_to_a_probe_too(model):
    # That something is next to nothing takes more samples to say.
    x, y = samples(1500, seed=6)
    random = np.random.default_rng(5)
    train = dict(TRAIN[0])
    for data in (x, train):
        noise = random.normal(size=data["faint"].shape)
        data["faint"] = (0.1 * noise).astype("float32")
    report = report_of(model, x, y, probe=(train, TRAIN[1]))
    assert ("silent", "faint") in kinds(report)
    assert "starved" not in [verdict.kind for verdict in report.verdicts]


def test_a_fusion_that_hurts_is_mended_as_advised(model, heads):
    kernel, bias = heads["other"].get_weights()
    noise = np.random.default_rng(0).normal(size=kernel.shape)
    heads["other"].set_weights([20 * noise, bias])
    report = report_of(model)
    verdict, sure = report.verdicts[:2]
    assert [verdict.kind, sure.kind] == ["hurts", "sure"]
    assert "clear alone gets" in verdict.text
    assert "calibrate_fusion" in verdict.advice
    held_out = samples(300, seed=7)
    calibration = keras_mimo.calibrate_fusion(model, *held_out, verbose=0)
    try:
        mended = report_of(model)
    finally:
        calibration.reset()
    assert "hurts" not in [verdict.kind for verdict in mended.verdicts]


def test_few_samples_say_nothing(model, heads):
    heads["faint"].set_weights([0 * w for w in heads["faint"].get_weights()])
    x, y = TEST
    report = report_of(model, {k: v[:20] for k, v in x.items()}, y[:20])
    assert report.verdicts == []
    assert "20 samples are too few" in str(report)
    # So do many of which few have a weight.
    weights = (np.arange(len(y)) < 20).astype(float)
    assert report_of(model, sample_weight=weights).verdicts == []


def test_noise_on_fifty_samples_says_nothing():
    random = np.random.default_rng(0)
    false = 0
    for _ in range(1000):
        one, other = random.uniform(size=(2, 50)) < 0.7
        gain = Estimate(one.astype(float) - other, np.ones(50))
        false += gain.exceeds(0.01)
    assert false <= 5


def test_a_difference_that_is_there_is_found():
    random = np.random.default_rng(0)
    one, other = random.uniform(size=(2, 500)) < [[0.8], [0.65]]
    gain = Estimate(one.astype(float) - other, np.ones(500))
    assert gain.exceeds(0.05)
    error = np.sqrt((0.8 * 0.2 + 0.65 * 0.35) / 500)
    assert gain.error == pytest.approx(error, rel=0.1)


def test_a_fusion_that_does_not_listen():
    same = {"loud": layers.Identity(), "quiet": layers.Identity()}
    model = made(same, {"loud": 1.0, "quiet": 0.0})
    x = {
        "loud": logits(LABELS, 0.8, seed=1),
        "quiet": logits(LABELS, 0.7, seed=2),
    }
    report = report_of(model, x, LABELS, task="classification")
    assert kinds(report) == [("ignored", "quiet")]
    assert "calibrate_fusion" in report.verdicts[0].advice


def test_a_model_that_does_not_cope():
    # Without its input, the first modality votes for the first class.
    offset = np.array([9.0, 0.0, 0.0], "float32")
    model = made(
        {
            "first": layers.Rescaling(1.0, offset=offset),
            "second": layers.Identity(),
        }
    )
    x = {
        "first": logits(LABELS, 0.75, seed=1, size=1.2) - offset,
        "second": logits(LABELS, 0.75, seed=2, size=1.2),
    }
    report = report_of(model, x, LABELS, task="classification")
    assert kinds(report) == [("lost", "first")]
    assert 'missing={"first": float("nan")}' in report.verdicts[0].advice


def test_a_model_of_luck():
    model = made({"a": layers.Identity(), "b": layers.Identity()})
    y = np.random.default_rng(0).integers(0, CLASSES, 1500)
    x = {
        "a": logits(y, 1 / 3, seed=1, size=0.1),
        "b": logits(y, 1 / 3, seed=2, size=0.2),
    }
    report = report_of(model, x, y, task="classification")
    assert kinds(report) == [("luck", None)]


def test_luck():
    targets = np.eye(2)[[0, 0, 0, 1]]
    weights = np.full(4, 0.25)
    always = np.tile([1.0, 0.0], (4, 1))
    found = luck("classification", always, targets, weights)
    np.testing.assert_allclose(found, 0.75)
    ties = luck("classification", 0 * always, targets, weights)
    np.testing.assert_allclose(ties, 0.5)
    labels = np.array([[1.0, 0], [1, 1], [1, 0], [1, 0]])
    found = luck("multilabel", always - 0.5, labels, weights)
    np.testing.assert_allclose(found, (1 + 0.75) / 2)
    values = np.array([[0.0], [0], [2], [2]])
    np.testing.assert_allclose(luck("regression", values, values, weights), -1)


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_other_tasks(task, tmp_path):
    model = made({"a": layers.Identity(), "b": layers.Identity()})
    random = np.random.default_rng(0)
    x = {k: random.normal(size=(200, CLASSES)).astype("float32") for k in "ab"}
    total = x["a"] + x["b"]
    y = total if task == "regression" else (total > 0).astype("float32")
    report = report_of(model, x, y, task=task)
    # Each is half of the truth, and the sum is all of it.
    assert report.verdicts == []
    figures = report.to_dict()
    assert figures["parts"]["a"] == pytest.approx(figures["parts"]["b"], 0.2)
    assert (figures["only_right"] is None) == (task == "regression")
    title = "squared error" if task == "regression" else "of labels right"
    report.save(tmp_path / "report.html")
    assert title in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "NaN" not in json.dumps(figures)
    # Far from the labels, the fusion is worse than one of its parts.
    x["b"] = 3 * random.normal(size=(200, CLASSES)).astype("float32")
    assert kinds(report_of(model, x, y, task=task))[0] == ("hurts", "b")


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        chosen = slice(100 * index, 100 * (index + 1))
        x, y = TEST
        return {k: v[chosen] for k, v in x.items()}, y[chosen]


def datasets():
    yield Batches()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        yield tf.data.Dataset.from_tensor_slices(TEST).batch(100)


def test_datasets_give_what_arrays_give(model, capsys):
    expected = report_of(model, batch_size=100)
    for data in datasets():
        capsys.readouterr()
        found = keras_mimo.modality_report(model, data)
        printed = capsys.readouterr().out
        assert "4/4" in printed
        assert str(found) in printed
        assert str(found) == str(expected)
        assert found.to_dict()["only_right"] == expected.to_dict()["only_right"]


def test_a_probe_learns_from_a_dataset_too(model):
    found = report_of(model, Batches(), None, probe=Batches()).probe
    assert found == pytest.approx(report_of(model, probe=TEST).probe)


def test_samples_lack_a_modality():
    encoders = {
        name: keras.Sequential([keras.Input((width,)), layers.Dense(4)])
        for name, width in WIDTHS.items()
    }
    lacking = keras_mimo.late_fusion(encoders, CLASSES, missing=True)
    lacking.compile(loss=LOSS)
    x, y = samples(100, seed=8)
    x["faint"][:] = np.nan
    x["other"][:50] = np.nan
    report = report_of(lacking, x, y)
    assert report.to_dict()["alone"]["faint"] is None
    assert len(report.only_right["faint"]) == 0
    right = lacking.predict(x, verbose=0)["other"].argmax(1) == y
    expected = {i for i in np.flatnonzero(right) if i >= 50}
    assert set(report.only_right["other"]) <= expected
    assert "–" in str(report)


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(model, heads, tmp_path):
    heads["faint"].set_weights([0 * w for w in heads["faint"].get_weights()])
    report = report_of(model)
    report.save(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert report.verdicts[0].title in text
    # Each name is in all five sections, and no place was left to be filled.
    body = text.split("</style>")[1]
    assert "{" not in body.split('id="says"')[0]
    assert all(body.count(name) >= 5 for name in WIDTHS)
    assert reader.links[:2] == ["#says", f"{DOCS}/{report.verdicts[0].link}"]


def test_names_are_escaped(tmp_path):
    name = "<i>&"
    model = made({name: layers.Identity(), "plain": layers.Identity()})
    x = {
        name: logits(LABELS, 1 / 3, seed=1, size=9.0),
        "plain": logits(LABELS, 0.8, seed=2),
    }
    report = report_of(model, x, LABELS, task="classification")
    assert name in report.verdicts[0].text
    report.save(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert name not in text
    assert "&lt;i&gt;&amp;" in text


def test_links_are_sections_of_the_guide():
    source = ROOT / "keras_mimo" / "diagnostics" / "verdicts.py"
    links = set(re.findall(r'"(\w+\.md#[\w-]+)"', source.read_text("utf-8")))
    assert len(links) > 3
    for link in links:
        path, anchor = link.split("#")
        titles = re.findall(
            r"^#+ (.*)$", (ROOT / DOCS / path).read_text("utf-8"), re.M
        )
        assert anchor in [t.lower().replace(" ", "-") for t in titles]


def test_sampled_parts_have_an_error(tmp_path):
    names = [f"m{k}" for k in range(7)]
    model = made({name: layers.Identity() for name in names})
    x = {n: logits(LABELS, 0.5, seed=k) for k, n in enumerate(names)}
    report = report_of(model, x, LABELS, task="classification")
    assert "±" in str(report)
    assert set(report.to_dict()["errors"]) == set(names)
    parts = report.contributions.sample_parts
    for name in names:
        assert parts[name].mean() == pytest.approx(
            report.contributions.parts[name]
        )


def test_the_picture(model, tmp_path):
    pytest.importorskip("matplotlib")
    figure = report_of(model).plot(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 1000
    assert [axis.get_title() for axis in figure.axes] == [
        "Alone, and without it",
        "What it adds (Shapley part)",
        "Only it is right",
    ]


@pytest.mark.slow
def test_joint_training_starves_and_the_sum_does_not():
    found = {}
    strengths = (5, 1.5, 1.5)
    train, test = samples(600, 3, strengths), samples(2000, 4, strengths)
    for combiner in (None, "sum"):
        keras.utils.set_random_seed(0)
        encoders = {
            name: keras.Sequential(
                [keras.Input((width,)), layers.Dense(16, activation="relu")]
            )
            for name, width in WIDTHS.items()
        }
        model = keras_mimo.late_fusion(encoders, CLASSES)
        model.compile(keras.optimizers.Adam(0.01), LOSS, combiner=combiner)
        model.fit(*train, epochs=15, batch_size=50, verbose=0)
        report = report_of(model, *test, probe=train)
        found[combiner] = [v for v in report.verdicts if v.kind == "starved"]
    assert {v.modality for v in found[None]} & {"faint", "other"}
    assert all('combiner="sum"' in v.advice for v in found[None])
    assert found["sum"] == []
