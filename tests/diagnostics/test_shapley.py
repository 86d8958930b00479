from itertools import permutations

import numpy as np
import pytest

from keras_mimo.diagnostics.shapley import all_subsets
from keras_mimo.diagnostics.shapley import beginnings
from keras_mimo.diagnostics.shapley import exact_parts
from keras_mimo.diagnostics.shapley import orders
from keras_mimo.diagnostics.shapley import sampled_parts


def game(players, seed=0):
    random = np.random.default_rng(seed)
    return {group: random.uniform() for group in all_subsets(players)}


def test_two_players_by_hand():
    values = {
        frozenset(): 0.1,
        frozenset("a"): 0.7,
        frozenset("b"): 0.3,
        frozenset("ab"): 0.8,
    }
    parts = exact_parts(["a", "b"], values)
    # Half of what each adds as the first, half of what it adds as the second.
    assert parts["a"] == pytest.approx((0.6 + 0.5) / 2)
    assert parts["b"] == pytest.approx((0.2 + 0.1) / 2)


def test_three_players_are_the_mean_over_all_orders():
    players, values = list("abc"), game("abc")
    gains = {p: [] for p in players}
    for order in permutations(players):
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            gains[player].append(values[before | {player}] - values[before])
    parts = exact_parts(players, values)
    for player in players:
        assert parts[player] == pytest.approx(np.mean(gains[player]))


def test_parts_add_up_and_who_adds_nothing_has_none():
    players = list("abcd")
    values = game("abc")
    # "d" changes nothing; "b" does what "a" does.
    values = {
        group: values[group - {"d"}] + values[swapped(group) - {"d"}]
        for group in all_subsets(players)
    }
    parts = exact_parts(players, values)
    whole = values[frozenset(players)] - values[frozenset()]
    assert sum(parts.values()) == pytest.approx(whole)
    assert parts["d"] == pytest.approx(0, abs=1e-12)
    assert parts["a"] == pytest.approx(parts["b"])


def swapped(group):
    return frozenset({"a": "b", "b": "a"}.get(p, p) for p in group)


def test_sampled_parts_are_near_the_exact_ones():
    players = list("abcdefgh")
    values = game(players)
    exact = exact_parts(players, values)
    drawn = orders(players, 400, seed=1)
    parts, errors = sampled_parts(players, values, drawn)
    whole = values[frozenset(players)] - values[frozenset()]
    assert sum(parts.values()) == pytest.approx(whole)
    gaps = [abs(parts[p] - exact[p]) / errors[p] for p in players]
    assert max(gaps) < 4
    assert 0.3 < np.sqrt(np.mean(np.square(gaps))) < 2


def test_an_order_and_its_reverse_are_one_draw():
    # Of two players, each pair of orders has the exact parts.
    values = game("ab")
    parts, errors = sampled_parts(list("ab"), values, orders(list("ab"), 10))
    assert parts == pytest.approx(exact_parts(list("ab"), values))
    assert max(errors.values()) < 1e-12


def test_sampled_parts_need_only_the_beginnings():
    players = list("abcdefg")
    drawn = orders(players, 4)
    assert drawn[1] == drawn[0][::-1]
    needed = {group for order in drawn for group in beginnings(order)}
    assert len(needed) <= 4 * 6 + 2
    values = game(players)
    sampled_parts(players, {group: values[group] for group in needed}, drawn)
