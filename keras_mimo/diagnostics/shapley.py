"""How a value divides among players."""

import itertools
import math

import numpy as np

# Beyond it, 2 ** players are more than is worth computing.
MAX_EXACT = 6


def orders(players, number, seed=0):
    """Random orders of the players, each followed by its reverse.

    Args:
        players: List of names.
        number: Even integer.
        seed: Integer.
    """
    random = np.random.default_rng(seed)
    drawn = [list(random.permutation(players)) for _ in range(number // 2)]
    return [order for one in drawn for order in (one, one[::-1])]


def all_subsets(players):
    """All subsets of some players, as a list of frozen sets."""
    sizes = range(len(players) + 1)
    return [
        frozenset(chosen)
        for size in sizes
        for chosen in itertools.combinations(players, size)
    ]


def beginnings(order):
    """The sets of the first players of an order: none, the first, ... all."""
    return [frozenset(order[:size]) for size in range(len(order) + 1)]


def exact_parts(players, values):
    """The Shapley part of each player.

    `phi_m = sum over the sets S without m of
    |S|! (M - |S| - 1)! / M! * (v(S + m) - v(S))`

    Args:
        players: List of M names.
        values: Dict from frozen sets, all subsets, to floats or arrays: `v`.

    Returns:
        Dict from players to such, whose sum is `v(all) - v(none)`.
    """
    total = len(players)

    def part(player):
        return sum(
            (values[group | {player}] - values[group])
            / (total * math.comb(total - 1, len(group)))
            for group in all_subsets([p for p in players if p != player])
        )

    return {player: part(player) for player in players}


def mean_parts(players, values, orders):
    """The mean of what each player adds, over orders.

    Args:
        players: List of names.
        values: Dict from frozen sets, the `beginnings()` of all orders, to
            floats or arrays.
        orders: List of lists.

    Returns:
        Dict from players to floats or arrays.
    """
    parts = dict.fromkeys(players, 0.0)
    for order in orders:
        for before, after in itertools.pairwise(beginnings(order)):
            (player,) = after - before
            parts[player] += (values[after] - values[before]) / len(orders)
    return parts


def sampled_parts(players, values, orders):
    """The Shapley parts as means over orders, and their standard errors.

    Args:
        players: List of names.
        values: Dict from frozen sets, the `beginnings()` of all orders, to
            floats.
        orders: List, what `orders()` returned.

    Returns:
        Two dicts from players to floats: the parts, whose sum is exact, and
        their errors.
    """
    gains = {player: [] for player in players}
    for order in orders:
        for before, after in itertools.pairwise(beginnings(order)):
            (player,) = after - before
            gains[player].append(values[after] - values[before])
    # An order and its reverse are no two independent draws.
    pairs = {p: np.reshape(g, (-1, 2)).mean(axis=1) for p, g in gains.items()}
    parts = {p: float(means.mean()) for p, means in pairs.items()}
    errors = {
        p: float(means.std(ddof=1) / math.sqrt(len(means)))
        for p, means in pairs.items()
    }
    return parts, errors
