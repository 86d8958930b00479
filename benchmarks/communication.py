"""What replicas send each other in a training step: by calculation.

    python benchmarks/communication.py
    python benchmarks/communication.py --parameters 86e6 --objectives 8

Nothing is measured. The numbers of bytes are those of what our steps reduce, as
`tests/benchmarks/test_communication.py` finds them on PyTorch; the times follow
from a bandwidth and a latency that you give, by the formulas of a ring and a
tree.
"""

import argparse
import dataclasses
import math

FLOAT = 4


@dataclasses.dataclass(frozen=True)
class Model:
    """What the numbers depend on.

    Args:
        parameters: Number of trainable parameters, all `float32`.
        objectives: Number of objectives.
        balanced: Number of the parameters over which a Gramian is taken, with
            `balanced_variables`.
    """

    parameters: int
    objectives: int
    balanced: int


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a replica gives to reductions in a step.

    Args:
        bytes: Their size.
        messages: Their number.
    """

    bytes: float
    messages: float

    def __add__(self, other):
        return Traffic(self.bytes + other.bytes, self.messages + other.messages)

    def __mul__(self, share):
        return Traffic(self.bytes * share, self.messages * share)


def plain(model):
    """The gradient: plain Keras sends that too."""
    return Traffic(FLOAT * model.parameters, 1)


def losses(model):
    """And K losses, and which of them are active."""
    return plain(model) + Traffic(FLOAT * 2 * model.objectives, 1)


def gramian(model):
    """And a row for each objective, in one message."""
    size = FLOAT * model.objectives * model.parameters
    return losses(model) + Traffic(size, 1)


def part(model):
    """The same for the balanced variables alone."""
    size = FLOAT * model.objectives * model.balanced
    return losses(model) + Traffic(size, 1)


def at_layer(model):
    """And a Gramian: rows of samples need not leave their replica."""
    return losses(model) + Traffic(FLOAT * model.objectives**2, 1)


def periodic(model, n=8):
    """The rows in every n-th step only."""
    return gramian(model) * (1 / n) + losses(model) * (1 - 1 / n)


CLASSES = {
    "plain Keras": plain,
    "losses": losses,
    "Gramian, `gradients_at`": at_layer,
    "Gramian, `balanced_variables`": part,
    "Gramian, `EveryN(8)` on PyTorch": periodic,
    "Gramian, or gradients": gramian,
}


def sent(traffic, replicas):
    """Bytes that each replica sends, in a ring."""
    return 2 * (replicas - 1) / replicas * traffic.bytes


def seconds(traffic, replicas, bandwidth, latency):
    """Of a ring's bytes, and of messages up and down a tree."""
    hops = 2 * math.ceil(math.log2(replicas))
    transfer = sent(traffic, replicas) / bandwidth
    return transfer + traffic.messages * hops * latency


def table(model, replicas, bandwidth, latency):
    lines = [
        "| reduced for | MB per step | "
        + " | ".join(f"MB sent, {n} | ms, {n}" for n in replicas)
        + " |",
        "| --- |" + " ---: |" * (1 + 2 * len(replicas)),
    ]
    for name, function in CLASSES.items():
        traffic = function(model)
        cells = [f"{traffic.bytes / 1e6:.2f}"]
        for n in replicas:
            cells.append(f"{sent(traffic, n) / 1e6:.2f}")
            time = seconds(traffic, n, bandwidth, latency)
            cells.append(f"{1e3 * time:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parameters", type=float, default=25.6e6)
    parser.add_argument("--objectives", type=int, default=4)
    parser.add_argument("--balanced", type=float, default=1e6)
    parser.add_argument("--replicas", type=int, nargs="+", default=[8, 1024])
    parser.add_argument("--bandwidth", type=float, default=12.5e9)
    parser.add_argument("--latency", type=float, default=1e-5)
    given = parser.parse_args(arguments)
    model = Model(
        parameters=int(given.parameters),
        objectives=given.objectives,
        balanced=int(given.balanced),
    )
    print(
        f"By calculation: {model.parameters / 1e6:g} million parameters, "
        f"{model.objectives} objectives, "
        f"{model.balanced / 1e6:g} million parameters balanced, "
        f"{given.bandwidth / 1e9:g} GB/s, {1e6 * given.latency:g} us per hop"
    )
    print()
    print(table(model, given.replicas, given.bandwidth, given.latency))


if __name__ == "__main__":
    main()
