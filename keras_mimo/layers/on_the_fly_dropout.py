import keras
from keras import ops

from keras_mimo.utils.arguments import check_fraction
from keras_mimo.utils.arguments import check_nonnegative_integer
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.ratios import mean_over_others
from keras_mimo.utils.ratios import pairwise


@keras.saving.register_keras_serializable(package="keras_mimo")
class OnTheFlyDropout(keras.layers.Layer):
    """Drops the features of the modalities that are ahead, in training.

    On-the-fly prediction modulation (OPM). With the score `s_m` of a modality,
    the mean probability that its own logits give to the true class,

    `rho_m = mean_{j != m} s_m / s_j`,
    `q_m = min(1, rate * (1 + strength * tanh(rho_m - 1)))` where `rho_m > 1`,
    else 0.

    With the probability `execution` a batch is modulated: the features of each
    sample lose modality `m` with the probability `q_m`, and all features are
    divided by `1 - sum_m d_m q_m / sum_m d_m`, where `d_m` is their width. In
    inference nothing is dropped.

    The weakest modality has `q_m = 0`, so that no sample ever loses all. (The
    paper leaves such samples out of the loss; there are none.)

    A training step of a `MultimodalModel` scores its modalities, and the scores
    of a batch decide about the next one. In the first `warm_up` epochs of
    `fit()` nothing is dropped. Scores and epochs are saved with the model. The
    released code takes the scores of the batch itself, by the part of the fused
    head that belongs to a modality; here a modality's own head has to be
    trained, as by `combiner="sum"`. In a step of one's own, call
    `update_scores()`, and `on_epoch_end()`.

    Args:
        rate: Float from 0 to 1, `q_base` in the paper. Defaults to `0.5`, the
            value of its released training script.
        strength: Non-negative float, `lambda` in the paper. Defaults to `0.5`,
            from there.
        execution: Float from 0 to 1, how probably a batch is modulated.
            Defaults to `0.7`, from there.
        warm_up: Non-negative integer, a number of epochs. Defaults to `6`: the
            released code begins after the epoch that it calls 5.
        seed: Optional integer, the seed of the draws.

    Attributes:
        modalities: The sorted names of the modalities, set by `build()`.
        scores: Non-trainable variable of shape `(M,)`, in that order.

    Call arguments:
        inputs: Dict from the names of at least two modalities to tensors of
            shape `(batch, features)`.
        training: Boolean, whether modalities are dropped.

    Returns:
        Dict like `inputs`.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is out of its range.

    Example:

    ```python
    drop = keras_mimo.layers.OnTheFlyDropout()
    fuse = keras.layers.Concatenate()
    model = keras_mimo.late_fusion(
        {"accel": accel, "gyro": gyro},
        num_classes=7,
        fusion=lambda features: fuse(list(drop(features).values())),
    )
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner="sum",
    )
    ```

    Reference:

    - [On-the-fly Modulation for Balanced Multimodal Learning](
        https://arxiv.org/abs/2410.11582)
    """

    # `call()` is made of layers and operations of Keras only.
    composite = True

    def __init__(
        self,
        rate=0.5,
        strength=0.5,
        execution=0.7,
        warm_up=6,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.rate = check_fraction("rate", rate)
        self.strength = check_number("strength", strength, positive=False)
        self.execution = check_fraction("execution", execution)
        self.warm_up = check_nonnegative_integer("warm_up", warm_up)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        if not isinstance(input_shape, dict) or len(input_shape) < 2:
            raise ValueError(
                "OnTheFlyDropout must be called with a dict of the features of "
                "at least two modalities. "
                f"Received: inputs of shape {input_shape}"
            )
        # Not by the order of the dict, which backends change.
        self.modalities = sorted(input_shape)
        self.scores = self.add_weight(
            name="scores",
            shape=(len(self.modalities),),
            initializer="ones",
            dtype="float32",
            trainable=False,
            autocast=False,
        )
        self.epochs = self.add_weight(
            name="epochs",
            shape=(),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    def update_scores(self, scores):
        """Sets the scores by which the next batches are modulated.

        Args:
            scores: Tensor of shape `(M,)` in the order of `modalities`: how
                probable each finds the true class. Only their ratios count. If
                one is not finite, nothing changes.
        """
        scores = ops.cast(scores, "float32")
        before = ops.convert_to_tensor(self.scores)
        finite = ops.all(ops.isfinite(scores))
        self.scores.assign(ops.where(finite, scores, before))

    def on_epoch_end(self):
        """Counts an epoch of the warm-up."""
        self.epochs.assign_add(1.0)

    def rates(self):
        """Tensor of shape `(M,)`: `q_m`, in the order of `modalities`."""
        scores = ops.convert_to_tensor(self.scores)
        ahead = mean_over_others(pairwise(scores)) - 1.0
        rates = self.rate * (1.0 + self.strength * ops.tanh(ahead))
        warm = ops.convert_to_tensor(self.epochs) >= self.warm_up
        return ops.where(warm & (ahead > 0), ops.minimum(rates, 1.0), 0.0)

    def call(self, inputs, training=None):
        if not training:
            return inputs
        shape = ops.shape(inputs[self.modalities[0]])
        count = len(self.modalities)
        draw = {"dtype": "float32", "seed": self.seed_generator}
        executed = keras.random.uniform((1,), **draw) < self.execution
        rates = ops.where(executed, self.rates(), 0.0)
        kept = keras.random.uniform((shape[0], count), **draw) >= rates
        widths = [inputs[m].shape[-1] for m in self.modalities]
        widths = ops.convert_to_tensor(widths, dtype="float32")
        remaining = 1.0 - ops.sum(widths * rates) / ops.sum(widths)
        outputs = {}
        for index, name in enumerate(self.modalities):
            x = inputs[name]
            scale = ops.cast(1.0 / remaining, x.dtype)
            mask = kept[:, index, None]
            outputs[name] = ops.where(mask, x * scale, ops.zeros_like(x))
        return {name: outputs[name] for name in inputs}

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "strength": self.strength,
            "execution": self.execution,
            "warm_up": self.warm_up,
            "seed": self.seed,
        }
