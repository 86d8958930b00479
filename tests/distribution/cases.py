"""Small trainings whose result must not depend on the number of replicas."""

import keras
import numpy as np

import keras_mimo
from keras_mimo import callbacks
from keras_mimo import combiners
from keras_mimo import modulations
from keras_mimo.utils._keras import scale_loss_for_distribution

SAMPLES = 80
BATCH = 16
EPOCHS = 4


def own(array, rank, count):
    """The samples of one of `count` replicas, of every batch its part."""
    batches = array.reshape(-1, count, BATCH // count, *array.shape[1:])
    return batches[:, rank].reshape(-1, *array.shape[1:])


def inputs():
    return np.random.default_rng(0).normal(size=(SAMPLES, 4)).astype("float32")


def regression():
    x = inputs()
    return x, {"a": x[:, :1] * 3, "b": x.sum(axis=1, keepdims=True)}


def classes():
    """Of five classes, two of which only the first replica ever sees."""
    y = np.arange(SAMPLES) % 3
    y[:3] = (3, 4, 3)
    y[BATCH : BATCH + 2] = 4
    return inputs(), y.astype("int32")


class Overridden(keras_mimo.BalancedModel):
    """Adds to what the objectives make, as in Keras for each replica."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        added = keras.ops.mean(keras.ops.square(y_pred["a"]))
        return 2.0 * loss + scale_loss_for_distribution(added)


def two_heads(model=keras_mimo.BalancedModel):
    first = keras.Input((4,))
    shared = keras.layers.Dense(
        8, activation="tanh", name="shared", kernel_regularizer="l2"
    )(first)
    heads = {n: keras.layers.Dense(1, name=n)(shared) for n in ("a", "b")}
    return model(first, heads)


def classifier():
    first = keras.Input((4,))
    shared = keras.layers.Dense(8, activation="tanh", name="shared")(first)
    return keras_mimo.BalancedModel(first, keras.layers.Dense(5)(shared))


def modalities():
    encoders = {}
    for name in ("left", "right"):
        first = keras.Input((4,), name=name)
        hidden = keras.layers.Dense(6, activation="tanh")(first)
        encoders[name] = keras.Model(first, hidden)
    return keras_mimo.late_fusion(encoders, num_classes=5)


def taught():
    return keras_mimo.add_unimodal_teachers(modalities())


def alternating():
    encoders = {}
    for name in ("left", "right"):
        first = keras.Input((4,), name=name)
        encoders[name] = keras.Model(first, keras.layers.Dense(6)(first))
    return keras_mimo.alternating_fusion(encoders, num_classes=5)


def two_inputs():
    x, y = classes()
    return {"left": x, "right": x[:, ::-1].copy()}, y


def of_other_classes():
    """To which nothing that is learnt of the others applies."""
    x, y = two_inputs()
    return x, y[::-1].copy()


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def case(combiner, build=two_heads, data=regression, loss="mse", **options):
    return dict(
        combiner=combiner, build=build, data=data, loss=loss, options=options
    )


def groups(combiner):
    return dict(
        build=classifier,
        data=classes,
        loss=crossentropy,
        combiner=combiner,
        options={
            "objectives": keras_mimo.objectives.ClassGroups(
                [[0, 1], [2], [3, 4]]
            )
        },
    )


def modulated(modulation, combiner):
    return dict(
        build=modalities,
        data=two_inputs,
        loss=crossentropy,
        combiner=lambda: combiners.get(combiner),
        modulation=modulation,
        options={},
    )


# One of each kind, and what a test that is not slow trains.
CORE = {
    "losses": case(lambda: combiners.STCHCombiner(smoothing=1.0)),
    "gramian": groups(lambda: keras_mimo.MGDACombiner("loss+")),
    "stateful": case(
        lambda: combiners.EveryN(
            combiners.Smoothed(keras_mimo.MGDACombiner(), of="gramian"), 3
        )
    ),
}
# What is trained once more without the reduction.
UNREDUCED = ("losses", "gramian")
OTHERS = {
    "losses of groups": groups(combiners.STCHCombiner),
    "losses of modalities": case(
        keras_mimo.MIMOCombiner, modalities, two_inputs, crossentropy
    ),
    "losses of objectives alone": {
        **case(
            combiners.GBlendingCombiner, modalities, two_inputs, crossentropy
        ),
        "callbacks": lambda: [
            callbacks.GradientBlending(
                two_inputs(), of_other_classes(), 2, 4, batch_size=BATCH
            ),
            callbacks.Relearning(two_inputs(), of_other_classes(), every=3),
        ],
    },
    "losses and teachers": {
        **case(combiners.SumCombiner, taught, two_inputs, crossentropy),
        "callbacks": lambda: [
            callbacks.TrainTeachers(two_inputs(), 2, batch_size=BATCH)
        ],
    },
    "losses in turns": case(
        combiners.SumCombiner, alternating, two_inputs, crossentropy
    ),
    "losses of epochs": case(combiners.DWACombiner),
    "losses looked at again": case(combiners.FAMOCombiner),
    "trainable": case(combiners.UncertaintyCombiner),
    "gramian of outputs": case(keras_mimo.MGDACombiner),
    "gramian of modalities": case(
        keras_mimo.MGDACombiner, modalities, two_inputs, crossentropy
    ),
    "gramian of sums": case(
        keras_mimo.MGDACombiner,
        loss=lambda: keras.losses.MeanSquaredError(reduction="sum"),
        loss_weights={"a": 1 / BATCH, "b": 1 / BATCH},
    ),
    "gramian of blocks": case(keras_mimo.MGDACombiner, blocks="layer"),
    "gramian of a part": case(
        keras_mimo.MGDACombiner, balanced_variables="backbone"
    ),
    "gramian and an override": case(
        keras_mimo.MGDACombiner, lambda: two_heads(Overridden)
    ),
    "gramian at a layer": case(keras_mimo.MGDACombiner, gradients_at="shared"),
    "stateful in all steps": case(
        lambda: combiners.Smoothed(keras_mimo.MGDACombiner())
    ),
    "modulated": modulated(lambda: modulations.OGM(alpha=0.3), "sum"),
    "modulated with parts": modulated(modulations.AGM, "sum"),
    "modulated updates of a gramian": modulated(
        lambda: modulations.MLB(scale="update"), "mgda"
    ),
    "random": case(lambda: combiners.PCGradCombiner(seed=1)),
    "rows": case(lambda: combiners.ExcessMTLCombiner(1.0)),
    "coordinates": case(lambda: combiners.GradDropCombiner(seed=1)),
}
CASES = {**CORE, **OTHERS}


def model_of(case, seed=0):
    keras.utils.set_random_seed(seed)
    model = case["build"]()
    loss = case["loss"]
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss() if callable(loss) else loss,
        combiner=case["combiner"](),
        modulation=case["modulation"]() if "modulation" in case else None,
        **case["options"],
    )
    return model


def fit(model, *data, batch_size=BATCH, **given):
    if batch_size is not None:
        given["batch_size"] = batch_size
    return model.fit(*data, epochs=EPOCHS, shuffle=False, verbose=0, **given)


def weights_of(model):
    """Weights and the state of what balances them, as one vector."""
    arrays = [*model.weights, *model.combiner.variables]
    if model.modulation is not None:
        arrays += model.modulation.variables
    flat = [keras.ops.convert_to_numpy(a).astype("float64") for a in arrays]
    return np.concatenate([a.reshape(-1) for a in flat])


def train(case, seed=0, rank=0, count=1):
    """What one of `count` replicas that share every batch has in the end."""
    model = model_of(case, seed)
    data = keras.tree.map_structure(
        lambda array: own(array, rank, count), case["data"]()
    )
    given = {"callbacks": case["callbacks"]()} if "callbacks" in case else {}
    fit(model, *data, batch_size=BATCH // count, **given)
    return weights_of(model)
