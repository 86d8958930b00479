import math

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers import ops


class PreferenceCombiner(BalancedGradientCombiner):
    """Base class of combiners that can favour some objectives over others.

    Args:
        preference: `None` (all objectives alike), list of K non-negative floats
            in the order of the objectives, or dict that maps the names of
            objectives to them. In a dict, an objective that is left out has
            preference 0. Only ratios matter: the preferences are divided by
            their sum over the active objectives. Defaults to `None`.

    Raises:
        TypeError: If `preference` is neither `None`, a list, a tuple nor a
            dict.
        ValueError: If a preference is not a finite, non-negative number or all
            are 0 or, at build time, if they do not fit the objectives.
    """

    needs = "gramian"

    def __init__(self, preference=None, **kwargs):
        super().__init__(**kwargs)
        if preference is None:
            self.preference = None
            return
        if not isinstance(preference, (list, tuple, dict)):
            raise TypeError(
                "`preference` must be None, a list or a dict of floats. "
                f"Received: preference={preference} of type {type(preference)}"
            )
        is_dict = isinstance(preference, dict)
        values = preference.values() if is_dict else preference
        if not all(_is_valid(value) for value in values) or not any(values):
            raise ValueError(
                "`preference` must be finite, non-negative numbers that are "
                f"not all 0. Received: preference={preference}"
            )
        if is_dict:
            self.preference = {k: float(v) for k, v in preference.items()}
        else:
            self.preference = [float(value) for value in preference]

    def build(self, objective_names):
        super().build(objective_names)
        given = self.preference
        if isinstance(given, dict):
            unknown = sorted(set(given) - set(self.objective_names))
            if unknown:
                raise ValueError(
                    "`preference` names objectives that the model does not "
                    f"have: {unknown}. Its objectives are "
                    f"{self.objective_names}."
                )
        elif given is not None and len(given) != len(self.objective_names):
            raise ValueError(
                "`preference` must have one entry for each of the objectives "
                f"{self.objective_names}. Received: preference={given}"
            )

    def shares(self, active, dtype):
        """Preferences of the active objectives, with sum 1 unless all are 0.

        Args:
            active: Boolean tensor of shape `(K,)`.
            dtype: String, that of the result.

        Returns:
            Tensor of shape `(K,)`.
        """
        shares = ops.cast(active, dtype)
        if self.preference is not None:
            values = self.preference
            if isinstance(values, dict):
                names = self.objective_names
                values = [values.get(name, 0.0) for name in names]
            shares = shares * ops.convert_to_tensor(list(values), dtype=dtype)
        total = ops.sum(shares)
        return shares / ops.where(total > 0, total, 1.0)

    def get_config(self):
        given = self.preference
        if given is not None:
            given = dict(given) if isinstance(given, dict) else list(given)
        return {**super().get_config(), "preference": given}


def _is_valid(value):
    try:
        return math.isfinite(value) and value >= 0
    except TypeError:
        return False
