import keras
import numpy as np
from keras import ops

from keras_mimo.losses.targets import one_hot


@keras.saving.register_keras_serializable(package="keras_mimo")
class ClassAssignment(keras.layers.Layer):
    """Which group each class belongs to: a variable, so that it can change.

    Args:
        groups: List of lists of class ids, each class once, or `None`: all
            classes are in group 0.
        num_groups: Positive integer.
        num_classes: Positive integer.
    """

    def __init__(self, groups, num_groups, num_classes, **kwargs):
        super().__init__(dtype="int32", **kwargs)
        self.num_groups = num_groups
        self.num_classes = num_classes
        group_of_class = self._group_of_class(groups or [range(num_classes)])
        self.group_of_class = self.add_weight(
            name="group_of_class",
            shape=(num_classes,),
            # Not assigned: a layer may be created where nothing is kept.
            initializer=lambda shape, dtype: ops.convert_to_tensor(
                group_of_class, dtype=dtype
            ),
            dtype="int32",
            trainable=False,
        )
        self.built = True

    def assign(self, groups):
        """Assigns the classes anew.

        Args:
            groups: List of lists of class ids, each class once.

        Raises:
            ValueError: If a class is missing, twice, or out of range.
        """
        self.group_of_class.assign(self._group_of_class(groups))

    def _group_of_class(self, groups):
        check_groups(groups, self.num_groups, self.num_classes)
        group_of_class = np.zeros(self.num_classes, "int32")
        for index, classes in enumerate(groups):
            group_of_class[list(classes)] = index
        return group_of_class

    @property
    def groups(self):
        """List of lists of class ids; what is trained so far."""
        group_of_class = ops.convert_to_numpy(self.group_of_class)
        return [
            np.flatnonzero(group_of_class == index).tolist()
            for index in range(self.num_groups)
        ]

    def call(self, y):
        """Which group the samples belong to.

        Args:
            y: Tensor of class ids, of any shape.

        Returns:
            Tensor of shape `(..., num_groups)`, 1 or 0. What is no class is in
            no group.
        """
        # No gather: what that does out of range depends on the backend.
        classes = one_hot(y, self.num_classes, "float32")
        return ops.matmul(classes, self._members("float32"))

    def of_indicators(self, y):
        """`call()` for one or several classes per sample.

        Args:
            y: Tensor of shape `(..., num_classes)`, positive where a class is
                present.
        """
        present = ops.cast(y > 0, "float32")
        found = ops.matmul(present, self._members("float32"))
        return ops.cast(found > 0.5, "float32")

    def _members(self, dtype):
        group_of_class = ops.convert_to_tensor(self.group_of_class)
        return ops.one_hot(group_of_class, self.num_groups, dtype=dtype)


def check_groups(groups, num_groups, num_classes):
    """Raises `ValueError` unless each class is in one of the groups."""
    found = [int(c) for classes in groups for c in classes]
    if len(groups) > num_groups:
        raise ValueError(
            f"`groups` must be at most {num_groups}. "
            f"Received: {len(groups)} groups"
        )
    if sorted(found) != list(range(num_classes)):
        missing = sorted(set(range(num_classes)) - set(found))
        wrong = sorted(c for c in set(found) if not 0 <= c < num_classes)
        twice = sorted(c for c in set(found) if found.count(c) > 1)
        raise ValueError(
            f"`groups` must hold each of the {num_classes} classes once. "
            f"Received: groups={groups}, in which {missing} are missing, "
            f"{wrong} are no classes and {twice} are there more than once."
        )
