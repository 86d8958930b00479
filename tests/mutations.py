"""Breaks the package in one place at a time, and sees the quick tests fail.

    python tests/mutations.py                    # all that can run here
    python tests/mutations.py --backends torch   # of some backends
    python tests/mutations.py --only mimo        # whose name has this in it

`make mutate` runs it. Every change is made in a copy of the repository in a
temporary folder, in which the tests that are expected to notice run without
what is marked `slow`. A change that they do not notice has survived: a test is
missing. The same tests must pass where nothing was changed.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutation_list import BACKENDS
from mutation_list import MUTATIONS

ROOT = Path(__file__).parents[1]
# Processes are forked from one that has these, which take seconds to import.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["keras", "pytest"])
MINUTES = 20
# What pytest returns where tests ran and failed, and where all passed.
PASSED, FAILED = 0, 1


def copy_to(folder):
    """A copy of the repository, without what is built or not tracked."""
    for name in ("keras_mimo", "tests", "docs", "examples", "benchmarks"):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.png"),
        )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)


def check_texts(mutations):
    """Raises unless every text that is to be changed is there once."""
    lost = [
        f"{m.name}: must be in {m.file} once: {m.old!r}"
        for m in mutations
        if (ROOT / "keras_mimo" / m.file).read_text("utf-8").count(m.old) != 1
    ]
    if lost:
        raise SystemExit("\n".join(lost))


def change(mutation, folder):
    """Makes the change in a copy of the repository."""
    path = folder / "keras_mimo" / mutation.file
    text = path.read_text("utf-8")
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")


def run_tests(folder, tests, *options):
    """Runs tests in a copy of the repository: what pytest returns, prints."""
    printed = folder / "printed.txt"
    process = PROCESSES.Process(
        target=_run_tests, args=(folder, tests, options, printed)
    )
    process.start()
    process.join(60 * MINUTES)
    process.kill()
    process.join()
    return process.exitcode, printed.read_text("utf-8", errors="replace")


def _run_tests(folder, tests, options, printed):
    import pytest

    output = os.open(printed, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    # Before the package as it may be installed, in other processes too.
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    sys.dont_write_bytecode = True
    paths = [f"tests/{test}" for test in tests]
    options = ["-q", "-m", "not slow", "-p", "no:cacheprovider", *options]
    sys.exit(pytest.main([*options, *paths]))


def outcome(mutation):
    """Whether the tests notice a change, how long that took, what failed."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        copy_to(folder)
        change(mutation, folder)
        code, output = run_tests(folder, mutation.tests, "-x")
    seconds = time.monotonic() - start
    if code == PASSED:
        return "survived", seconds, ""
    failed = [x for x in output.splitlines() if x.startswith("FAILED ")]
    if code != FAILED or not failed:
        # Tests that do not even run have noticed nothing.
        return "broken", seconds, output
    noticed = failed[0].removeprefix("FAILED tests/").split(" - ")[0]
    return "killed", seconds, noticed


def unchanged(mutations):
    """Raises unless the tests pass where nothing is changed."""
    tests = sorted({test for m in mutations for test in m.tests})
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        copy_to(folder)
        code, output = run_tests(folder, tests)
    if code != PASSED:
        raise SystemExit(f"Tests fail where nothing is changed:\n{output}")


def run(mutations, backend, jobs):
    """Prints what becomes of each mutation; returns how many are noticed."""
    os.environ.update(KERAS_BACKEND=backend, OMP_NUM_THREADS="1")
    print(f"| change, on {backend} | | seconds | noticed first by |")
    print("| --- | --- | ---: | --- |", flush=True)
    results = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(outcome, m) for m in mutations]
        control = pool.submit(unchanged, mutations)
        for mutation, future in zip(mutations, waiting, strict=True):
            result, seconds, detail = future.result()
            results.append(result)
            noticed = detail if result == "killed" else ""
            row = f"| {mutation.name} | {result} | {seconds:.0f} | {noticed} |"
            print(row, flush=True)
            if result == "broken":
                print(detail, file=sys.stderr)
        control.result()
    print(f"{results.count('killed')} of {len(results)} changes are noticed\n")
    return results.count("killed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=BACKENDS
    )
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    check_texts(MUTATIONS)
    if len(options.backends) > 1:
        # A process for each, which imports Keras on its backend.
        codes = [
            subprocess.run(
                [
                    *(sys.executable, __file__, "--backends", backend),
                    *("--only", options.only, "--jobs", str(options.jobs)),
                ]
            ).returncode
            for backend in options.backends
            if any(
                backend in m.backends and options.only in m.name
                for m in MUTATIONS
            )
        ]
        sys.exit(any(codes))
    (backend,) = options.backends
    chosen = [
        mutation
        for mutation in MUTATIONS
        if backend in mutation.backends and options.only in mutation.name
    ]
    if not chosen:
        # No tests to run would be all tests for pytest.
        sys.exit(f"no change called {options.only!r} is for {backend}")
    sys.exit(run(chosen, backend, options.jobs) < len(chosen))


if __name__ == "__main__":
    main()
