"""An overridden `compute_loss()` trains what it trains in plain Keras."""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import combiners

# Each compiles models of its own.
pytestmark = pytest.mark.slow

SAMPLES = 32


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class SumOfGradients(keras_mimo.SumCombiner):
    """`SumCombiner`, forced through the Gramian path."""

    needs = "gramian"


def penalty(model, y_pred):
    kernel = ops.convert_to_tensor(model.get_layer("shared").kernel)
    output = ops.cast(y_pred["a"], "float32")
    return ops.sum(ops.square(kernel)) + ops.mean(ops.square(output))


def positional(base):
    class Positional(base):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            return loss + 0.1 * penalty(self, y_pred)

    return Positional


def by_keyword(base):
    class ByKeyword(base):
        def compute_loss(self, x, y, y_pred, weight=None, **kwargs):
            loss = super().compute_loss(
                y_pred=dict(y_pred), y=y, x=x, sample_weight=weight, **kwargs
            )
            return 0.1 * penalty(self, y_pred) + loss

    return ByKeyword


def without_training(base):
    class WithoutTraining(base):
        def compute_loss(self, x, y, y_pred, sample_weight=None):
            loss = super().compute_loss(x, y, y_pred, sample_weight)
            return ops.sum(ops.stack([loss, 0.1 * penalty(self, y_pred)]))

    return WithoutTraining


def only_in_training(base):
    class OnlyInTraining(base):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight)
            return loss + 0.1 * penalty(self, y_pred) if training else loss

    return OnlyInTraining


def scaled(base):
    class Scaled(base):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            return 2.0 * loss + 0.1 * penalty(self, y_pred)

    return Scaled


def nonlinear(base):
    class Nonlinear(base):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            return ops.log(loss) * ops.exp(0.1 * penalty(self, y_pred))

    return Nonlinear


def other_labels(base):
    class OtherLabels(base):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            y = {name: 0.5 * label for name, label in y.items()}
            return super().compute_loss(x, y, y_pred, sample_weight, training)

    return OtherLabels


def with_metric(base):
    class WithMetric(base):
        @property
        def metrics(self):
            return [*super().metrics, self.tracker]

        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            self.tracker.update_state(loss * 4)
            return loss + ops.cast(sum(self.losses), loss.dtype)

    return WithMetric


FORMS = (
    positional,
    by_keyword,
    without_training,
    only_in_training,
    scaled,
    nonlinear,
    other_labels,
    with_metric,
)


def build(base, form):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    shared = layers.Dense(
        5,
        activation="tanh",
        name="shared",
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L2(0.1),
    )(inputs)
    heads = {name: layers.Dense(1, name=name)(shared) for name in ("a", "b")}
    model = form(base)(inputs, heads)
    # Not tracked: a built model takes no new metric.
    object.__setattr__(model, "tracker", keras.metrics.Mean(name="custom"))
    return model


@functools.cache
def plain(form):
    """What plain Keras makes of it: a model, and its history."""
    model = build(keras.Model, form)
    return model, train(model)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 4)).astype("float32")
    return x, {"a": 3 * x[:, :1], "b": x[:, 1:2] ** 2}


def train(model, combiner=None, epochs=2, optimizer=None, **options):
    if isinstance(model, keras_mimo.BalancedModel):
        options["combiner"] = combiner
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, "mse", **options)
    x, y = data()
    return model.fit(
        x,
        y,
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=(x, y),
    ).history


def without_regularizers(model):
    shared = model.get_layer("shared")
    shared.kernel_regularizer = shared.activity_regularizer = None


def assert_same_weights(model, other, tolerance=1e-6):
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "form",
    [
        form
        if form in (without_training, nonlinear, with_metric)
        else pytest.param(form, marks=pytest.mark.slow)
        for form in FORMS
    ],
    ids=lambda form: form.__name__,
)
def test_what_it_adds_is_trained_and_logged_as_by_keras(form):
    expected_model, expected = plain(form)
    model = build(keras_mimo.BalancedModel, form)
    history = train(model, SumOfGradients())
    assert_same_weights(model, expected_model)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"blocks": "layer"},
        {"gradients_at": "shared"},
        {"combiner": combiners.EveryN(SumOfGradients(), 2)},
        {"steps_per_execution": 2},
        {"run_eagerly": True},
        {"combiner": keras_mimo.SumCombiner()},
    ],
    ids=str,
)
def test_whatever_else_is_asked_of_the_step(options):
    if keras.backend.backend() == "torch":
        options.pop("steps_per_execution", None)
    combiner = options.pop("combiner", None) or SumOfGradients()
    model = build(keras_mimo.BalancedModel, scaled)
    train(model, combiner, **options)
    assert_same_weights(model, plain(scaled)[0])


def test_an_addition_takes_no_part_in_the_combination():
    """As `add_loss`, whose gradient is added with weight 1."""

    class AddLoss(layers.Layer):
        def call(self, x):
            self.add_loss(ops.mean(ops.square(x)))
            return x

    class Added(keras_mimo.BalancedModel):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            return loss + ops.mean(ops.square(y_pred["a"]))

    trained = []
    for cls, layer in (
        (keras_mimo.BalancedModel, AddLoss()),
        (Added, layers.Identity()),
    ):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((4,))
        shared = layers.Dense(5, activation="tanh")(inputs)
        heads = {
            "a": layer(layers.Dense(1, name="a")(shared)),
            "b": layers.Dense(1, name="b")(shared),
        }
        model = cls(inputs, heads)
        train(model, keras_mimo.MGDACombiner())
        trained.append(model)
    assert_same_weights(*trained)


@pytest.mark.parametrize("factor", [2.0, 0.25])
def test_a_factor_multiplies_what_was_combined(factor):
    """Also of a combiner for which the scale of gradients does not matter."""

    def times(base):
        class Times(base):
            def compute_loss(self, x, y, y_pred, sample_weight, training=True):
                loss = super().compute_loss(x, y, y_pred, sample_weight)
                return factor * loss

        return Times

    models = []
    for form, rate in ((times, 0.1), (lambda base: base, 0.1 * factor)):
        model = build(keras_mimo.BalancedModel, form)
        without_regularizers(model)
        combiner = combiners.Rescaled(keras_mimo.MGDACombiner())
        train(model, combiner, optimizer=keras.optimizers.SGD(rate))
        models.append(model)
    assert_same_weights(*models)


def test_a_loss_that_is_not_finite_is_that_of_keras():
    model = build(keras_mimo.BalancedModel, positional)
    model.compile("sgd", "mse", combiner=SumOfGradients())
    x, y = data()
    y["b"][0] = np.nan
    (loss, *_) = model.train_on_batch(x, y)
    assert np.isnan(loss)
    # Only the head of the other objective has a finite gradient.
    head = model.get_layer("a")
    assert all(np.isfinite(w).all() for w in head.get_weights())
    assert np.isnan(model.get_layer("b").get_weights()[0]).any()


def test_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        models = [
            build(base, scaled)
            for base in (keras.Model, keras_mimo.BalancedModel)
        ]
    finally:
        keras.config.set_dtype_policy("float32")
    for model in models:
        without_regularizers(model)
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.05), initial_scale=64.0
        )
        train(model, SumOfGradients(), optimizer=optimizer)
    assert int(model.optimizer.iterations) == 8
    assert_same_weights(*models, 2e-3)


def never(base):
    class Never(base):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            return ops.mean(ops.square(y_pred["a"] - y["a"]))

    return Never


def without_its_value(base):
    class WithoutItsValue(base):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            super().compute_loss(x, y, y_pred, sample_weight, training)
            return ops.mean(ops.square(y_pred["a"] - y["a"]))

    return WithoutItsValue


def twice(base):
    class Twice(base):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            once = super().compute_loss(x, y, y_pred, sample_weight, training)
            again = super().compute_loss(x, y, y_pred, sample_weight, training)
            return once + again

    return Twice


def other_outputs(base):
    class OtherOutputs(base):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            y_pred = {name: 2.0 * value for name, value in y_pred.items()}
            return super().compute_loss(x, y, y_pred, sample_weight, training)

    return OtherOutputs


REFUSED = {
    never: "Never.*does not call it",
    without_its_value: "WithoutItsValue.*does not depend on it",
    twice: "Twice.*more than once",
    other_outputs: "OtherOutputs.*other outputs",
}


@pytest.mark.parametrize("form", REFUSED, ids=lambda form: form.__name__)
def test_what_has_no_gradients_of_objectives(form):
    """It is refused by name, and works with a combiner of losses."""
    x, y = data()
    for combiner in (keras_mimo.MGDACombiner(), combiners.GradDropCombiner()):
        model = build(keras_mimo.BalancedModel, form)
        model.compile("sgd", "mse", combiner=combiner)
        name = type(combiner).__name__
        with pytest.raises(ValueError, match=f"(?s){name}.*{REFUSED[form]}"):
            model.fit(x, y, verbose=0)
    expected_model, expected = plain(form)
    model = build(keras_mimo.BalancedModel, form)
    history = train(model, keras_mimo.SumCombiner())
    assert_same_weights(model, expected_model)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], 1e-5)


@pytest.mark.parametrize("form", [positional, never, other_outputs])
def test_losses_are_looked_at_again_where_the_override_asks(form):
    model = build(keras_mimo.BalancedModel, form)
    combiner = combiners.FAMOCombiner()
    train(model, combiner, epochs=1)
    if form is never:
        assert not combiner.built
        return
    logits = ops.convert_to_numpy(combiner.logits)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() > 0


def test_one_output_for_two_losses():
    """As Keras' own test: labels and losses in the structure of `super()`."""

    def both(base):
        class Both(base):
            def compute_loss(self, x, y, y_pred, sample_weight=None, **kwargs):
                return super().compute_loss(
                    x=x,
                    y=y,
                    y_pred=[y_pred, y_pred],
                    sample_weight=sample_weight,
                    **kwargs,
                )

        return Both

    x, y = data()
    losses = ["mean_squared_error", "mean_absolute_error"]
    trained = []
    for base in (keras.Model, keras_mimo.BalancedModel):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((4,))
        model = both(base)(inputs, layers.Dense(1, name="a")(inputs))
        given = {"combiner": "sum"} if base is not keras.Model else {}
        model.compile(keras.optimizers.SGD(0.05), losses, **given)
        history = model.fit(x, (y["a"], y["b"]), verbose=0, shuffle=False)
        trained.append((model, history.history))
    (expected_model, expected), (model, history) = trained
    assert_same_weights(model, expected_model)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)
    model.compile("sgd", losses, combiner=keras_mimo.MGDACombiner())
    with pytest.raises(ValueError, match=r"MGDACombiner.*Both.*other outputs"):
        model.fit(x, (y["a"], y["b"]), verbose=0)
