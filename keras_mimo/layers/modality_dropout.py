import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mimo")
class ModalityDropout(keras.layers.Layer):
    """Drops whole modalities of a sample in training, never all of them.

    A dropped modality is zeros. What is left is not scaled up: a model that is
    to do without a modality must see what it will see. Where chance would drop
    all, one is kept at random. In inference nothing is dropped.

    Args:
        rate: Float from 0 to below 1, how probably each modality is dropped.
            Defaults to `0.2` (our choice).
        seed: Optional integer, the seed of the draws.

    Call arguments:
        inputs: Dict from the names of modalities to tensors, all with the
            batch as their first axis.
        training: Boolean, whether modalities are dropped.

    Returns:
        Dict like `inputs`.

    Raises:
        ValueError: If `rate` is out of its range.

    Example:

    ```python
    drop = keras_mimo.layers.ModalityDropout(0.3)
    fuse = keras_mimo.layers.GatedFusion(64)
    model = keras_mimo.late_fusion(
        {"accel": accel, "gyro": gyro},
        num_classes=7,
        fusion=lambda features: fuse(drop(features)),
    )
    ```

    Reference:

    - [ModDrop: adaptive multi-modal gesture recognition](
        https://arxiv.org/abs/1501.00102)
    """

    # `call()` is made of layers and operations of Keras only.
    composite = True

    def __init__(self, rate=0.2, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(
                "`rate` must be a number from 0 to below 1. "
                f"Received: rate={rate}"
            )
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        if not isinstance(input_shape, dict):
            raise ValueError(
                "ModalityDropout must be called with a dict of modalities. "
                f"Received: inputs of shape {input_shape}"
            )

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        # Not by the order of the dict, which backends change.
        names = sorted(inputs)
        count = ops.shape(inputs[names[0]])[0]
        draws = keras.random.uniform(
            (count, len(names)), dtype="float32", seed=self.seed_generator
        )
        # The largest draw is the one that would be dropped last.
        largest = ops.max(draws, axis=1, keepdims=True)
        kept = (draws >= self.rate) | (draws == largest)
        outputs = {}
        for index, name in enumerate(names):
            x = inputs[name]
            shape = (-1, *[1] * (len(x.shape) - 1))
            mask = ops.reshape(kept[:, index], shape)
            outputs[name] = ops.where(mask, x, ops.zeros_like(x))
        return outputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
