def of_modalities(modulation, logs, metric):
    """The value of a validation metric for each modality.

    Args:
        modulation: A built `Modulation`.
        logs: Dict, what callbacks get.
        metric: String, such as `"accuracy"`.

    Returns:
        List of M floats.

    Raises:
        ValueError: If the logs lack one.
    """
    names = [f"val_{modality}_{metric}" for modality in modulation.modalities]
    missing = [name for name in names if name not in logs]
    if missing:
        raise ValueError(
            f"{type(modulation).__name__} needs {missing} in the logs: give "
            "`validation_data` to `fit()`, and what it monitors to `compile()`."
            f" Received: logs with {sorted(logs)}"
        )
    return [float(logs[name]) for name in names]
