from keras_mimo.combiners import MGDACombiner
from keras_mimo.combiners import Rescaled
from keras_mimo.combiners import Smoothed
from keras_mimo.objectives import ClassGroups


def gbg(
    num_groups=4, groups=None, num_classes=None, within=None, method="ward"
):
    """Gradient-balanced grouping for long-tailed classes, for `compile()`.

    One objective per group of classes, and a step along the shortest vector in
    the convex hull of their gradients, each over its length and loss. The
    Gramian is averaged over steps, and the step has the length of the mean
    gradient. Without these two training is unstable on small batches, where few
    samples of the tail are in a batch. `docs/long_tail.md` compares it with
    other methods: try `keras_mimo.losses.LogitAdjusted` alone first.

    Gradients are compared in the backbone: all trainable variables without the
    classifier head.

    Args:
        num_groups: Positive integer. Defaults to `4`, as in the paper.
        groups: As in `ClassGroups`. Defaults to `None`: they are found by
            `keras_mimo.callbacks.RegroupClasses`, or by `adapt()`.
        num_classes: As in `ClassGroups`.
        within: As in `ClassGroups`.
        method: `"ward"`: groups of classes whose gradients agree; or
            `"released"`: those of GBG's code, in which classes that oppose each
            other share a group. Defaults to `"ward"`.

    Returns:
        Dict of arguments of `BalancedModel.compile()`.

    Example:

    ```python
    model = keras_mimo.BalancedModel(inputs, logits)
    model.compile(
        "sgd",
        keras_mimo.losses.LogitAdjusted(class_counts),
        **keras_mimo.gbg(num_groups=4),
    )
    model.fit(x, y, callbacks=[keras_mimo.callbacks.RegroupClasses((x, y))])
    ```

    Reference:

    - [GBG, 2023](https://arxiv.org/abs/2310.20490)
    """
    combiner = Smoothed(MGDACombiner(normalization="loss+"), of="gramian")
    return {
        "objectives": ClassGroups(
            groups=groups,
            num_groups=None if groups is not None else num_groups,
            num_classes=num_classes,
            within=within,
            method=method,
        ),
        "combiner": Rescaled(combiner),
        "balanced_variables": "backbone",
    }
