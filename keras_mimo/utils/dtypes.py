import keras


def at_least_float32(dtype=None):
    """The name of a dtype that keeps labels and logarithms exact enough.

    Args:
        dtype: Dtype, dtype policy, the name of one, or `None` for
            `keras.config.floatx()`.

    Returns:
        `"float32"` or `"float64"`.
    """
    policy = keras.dtype_policies.get(dtype or keras.config.floatx())
    return "float64" if policy.compute_dtype == "float64" else "float32"
