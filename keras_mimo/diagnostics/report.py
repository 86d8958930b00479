from pathlib import Path

from keras_mimo.diagnostics.contributions import contributions
from keras_mimo.diagnostics.drawing import draw
from keras_mimo.diagnostics.figures import Figures
from keras_mimo.diagnostics.probe import linear_probe
from keras_mimo.diagnostics.report_html import page
from keras_mimo.diagnostics.report_table import as_text
from keras_mimo.diagnostics.verdicts import FEWEST
from keras_mimo.diagnostics.verdicts import notes
from keras_mimo.diagnostics.verdicts import verdicts


class ModalityReport:
    """What each modality does for a model: see `modality_report()`.

    Printed, it is a table and, below it, what the figures say.

    Attributes:
        contributions: The `keras_mimo.diagnostics.Contributions` of the model,
            with all outputs and labels.
        only_right: Dict from modalities to the indices of the samples, in the
            order of the data, of which that modality's own output gets all
            labels right and no other's does. `None` for a regression.
        probe: Dict from modalities to the accuracy of a new linear head, empty
            without `probe=`.
        verdicts: List of findings, each with `kind`, `modality`, `title`,
            `text`, `advice` and `link`. Empty where nothing is wrong.
        notes: List of sentences, what the figures can't tell.
    """

    def __init__(self, model, found, probe=None):
        self.figures = Figures(found, probe)
        self.contributions = found
        self.only_right = self.figures.only_right()
        self.probe = self.figures.probe
        self.verdicts = verdicts(self.figures, model)
        self.notes = notes(self.figures)

    @property
    def is_enough(self):
        """Whether there are samples enough for a verdict."""
        return self.figures.count >= FEWEST

    def to_dict(self):
        """All figures as numbers, strings, lists and dicts, as for JSON."""
        found = self.contributions
        return {
            "task": found.task,
            "num_samples": found.num_samples,
            "modalities": list(found.modalities),
            "fused": found.fused,
            "alone": found.alone,
            "lost": found.lost,
            "parts": found.parts,
            "errors": found.errors,
            "only_right": self.only_right
            and {m: i.tolist() for m, i in self.only_right.items()},
            "probe": self.probe,
            "verdicts": [vars(verdict) for verdict in self.verdicts],
            "notes": self.notes,
        }

    def plot(self, path=None):
        """Draws it. Needs matplotlib.

        Args:
            path: Where to save the picture. Defaults to `None`: nowhere.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return draw(self, path)

    def save(self, path):
        """Writes it as one HTML file that needs nothing else.

        Args:
            path: String or path, such as `"report.html"`.
        """
        Path(path).write_text(page(self), encoding="utf-8")

    def __str__(self):
        return as_text(self)


def modality_report(
    model,
    x,
    y=None,
    sample_weight=None,
    task=None,
    probe=None,
    batch_size=256,
    verbose=1,
):
    """Reports what each modality does for a model, and what to try next.

    It scores the fused output, the output of each modality alone and the fused
    output without each modality, divides the accuracy into Shapley parts (see
    `keras_mimo.diagnostics.contributions()`), and finds the samples that only
    one modality gets right.

    Then it says in words what the figures say beyond doubt: that fusion hurts,
    that the model is too sure of itself, that a modality is starved or that the
    fusion hardly listens to it, that the model does not cope without one. A
    finding must be beyond three standard errors over the samples, taken as
    independent, and large enough to act on (a point of accuracy for a fusion
    that hurts, five for most others). With fewer than 30 samples it says
    nothing.

    A modality alone at the level of luck may be starved, or say nothing of the
    label. With `probe`, linear heads that are trained on the frozen encoders
    tell whether an encoder knows more than the model makes of it. What it could
    have learnt, only another training tells.

    Args:
        model: A `MultimodalModel`.
        x: Data that the model was not trained on: a dict of arrays, or a
            dataset of batches `(x, y)` or `(x, y, sample_weight)` (a
            `keras.utils.PyDataset`, a `tf.data.Dataset`, any iterable).
        y: Labels, where `x` is arrays, as in `keras_mimo.calibrate_fusion()`.
        sample_weight: Optional array of shape `(samples,)`, where `x` is
            arrays.
        task: `"classification"`, `"multilabel"` or `"regression"`. Defaults to
            `None`: as the loss tells that the model was compiled with.
        probe: The training data, which linear heads learn from: a tuple `(x,
            y)` or `(x, y, sample_weight)`, or a dataset. It takes scikit-learn
            and reads `x` once more. Defaults to `None`: no probe.
        batch_size: Integer, where `x` is arrays. Defaults to `256`.
        verbose: Whether to show a progress bar and print the report. Defaults
            to `1`.

    Returns:
        A `keras_mimo.diagnostics.ModalityReport`. `print()` shows a table,
        `to_dict()` gives the numbers, `plot(path)` draws them and
        `save("report.html")` writes a page of its own.

    Raises:
        TypeError: If `model` is no `MultimodalModel`, or `x` is no data.
        ValueError: If labels, weights or outputs don't fit or are not finite,
            if `task` is not known, or if modalities share an input.
        ImportError: If `probe` is given and scikit-learn is not installed.

    Example:

    ```python
    model = keras_mimo.late_fusion({"accel": accel, "gyro": gyro}, 7)
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(x_train, y_train, epochs=20)

    report = keras_mimo.modality_report(model, x_test, y_test)
    report.save("report.html")
    report.to_dict()["parts"]
    ```
    """
    found = contributions(
        model, x, y, sample_weight, task, batch_size, verbose=verbose
    )
    heads = None
    if probe is not None:
        train = probe if isinstance(probe, tuple) else (probe,)
        heads = linear_probe(
            model,
            (*train, *[None] * (3 - len(train))),
            (x, y, sample_weight),
            found.task,
        )
    report = ModalityReport(model, found, heads)
    if verbose:
        print(report)
    return report
