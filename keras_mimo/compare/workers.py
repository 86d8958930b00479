import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pickle

import keras

from keras_mimo.compare.training import train_and_score


@dataclasses.dataclass
class Task:
    """A run to do.

    Args:
        method: String, the name of the method.
        given: Dict, what it has of its own, with all options chosen.
        chosen: Dict of those options.
        seed: Integer.
        trial: Boolean: whether its score on validation data is to choose.
        key: String, by which the run is kept.
    """

    method: str
    given: dict
    chosen: dict
    seed: int
    trial: bool
    key: str


def do(setup, tasks, processes, wanted):
    """Does runs, here or in several processes.

    Args:
        setup: `Setup`.
        tasks: List of `Task`.
        processes: Integer.
        wanted: Function of a task that returns whether it is still to be done.

    Yields:
        Tuples of a task, a record or `None`, and the text of an error or
        `None`.
    """
    if processes == 1 or not tasks:
        for task in tasks:
            if wanted(task):
                yield task, *_attempt(setup, task)
        return
    blob = _pickled(setup, tasks)
    context = multiprocessing.get_context("spawn")
    with (
        _environment(processes),
        concurrent.futures.ProcessPoolExecutor(
            processes, context, _start, (blob, keras.config.dtype_policy().name)
        ) as pool,
    ):
        futures = {pool.submit(_work, task): task for task in tasks}
        try:
            for future in concurrent.futures.as_completed(futures):
                if future.cancelled():
                    continue
                yield futures[future], *future.result()
                for other, task in futures.items():
                    if not wanted(task):
                        other.cancel()
        except concurrent.futures.BrokenExecutor as error:
            raise RuntimeError(
                "A process of `compare()` ended before its run did, as one "
                "without enough memory does, or one that imports a script "
                'without `if __name__ == "__main__":` around its calls. What '
                "finished is in `folder`: the same call goes on from there. "
                f"Received: processes={processes}"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _attempt(setup, task):
    try:
        return train_and_score(setup, task.given, task.seed), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _pickled(setup, tasks):
    try:
        pickle.dumps(tasks)
        return pickle.dumps(setup)
    except Exception as error:
        raise ValueError(
            "With `processes`, `build` and all that methods are made of must "
            "be what another process can import: functions at the top of a "
            "module, no lambdas, and arrays or datasets that can be pickled. "
            f"Received: {type(error).__name__}: {error}"
        ) from error


_SETUP: list = []


def _start(blob, policy):
    keras.config.set_dtype_policy(policy)
    _SETUP[:] = [pickle.loads(blob)]


def _work(task):
    return _attempt(_SETUP[0], task)


@contextlib.contextmanager
def _environment(processes):
    """Processes that are started inside divide the cores."""
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    values = {
        "KERAS_BACKEND": keras.backend.backend(),
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
    }
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        if before[name] is None:
            os.environ[name] = value
    try:
        yield
    finally:
        for name in values:
            if before[name] is None:
                del os.environ[name]
