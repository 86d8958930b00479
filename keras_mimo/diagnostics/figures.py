import math

import numpy as np

from keras_mimo.diagnostics.evidence import ERRORS
from keras_mimo.diagnostics.evidence import Estimate
from keras_mimo.diagnostics.evidence import confidence
from keras_mimo.diagnostics.evidence import luck
from keras_mimo.fusion.scores import worth


class Figures:
    """What a report is made of, sample by sample.

    Args:
        found: What `contributions()` returned.
        probe: What `linear_probe()` returned, or `None`.
    """

    def __init__(self, found, probe=None):
        self.found = found
        self.probe = probe or {}
        self.task = found.task
        self.modalities = found.modalities
        self.everything = frozenset(found.modalities)
        self._worths = {
            name: worth(found.task, z, found.targets)
            for name, z in found.outputs.items()
        }

    @property
    def is_regression(self):
        return self.task == "regression"

    def score(self, scores):
        """The accuracy, or the mean squared error, of a score."""
        key = "mean_squared_error" if self.is_regression else "accuracy"
        return None if scores is None else scores[key]

    def weights(self, modality=None):
        """Weights of the samples that have a modality, not of sum 1."""
        present = self.found.present.get(modality, True)
        return self.found.weights * present

    @property
    def count(self):
        """How many samples of the same weight are worth as much."""
        return 1 / np.sum(self.found.weights**2)

    @property
    def scored(self):
        """The modalities that some sample has."""
        return [m for m in self.modalities if self.found.alone[m] is not None]

    def worth(self, output):
        return self._worths[output]

    def worth_without(self, modality):
        return self.found.worths[self.everything - {modality}]

    def fused(self):
        return Estimate(self.worth("fused"), self.found.weights)

    def better_alone(self, modality):
        """By how much its own output is better than the fused one."""
        gains = self.worth(modality) - self.worth("fused")
        return Estimate(gains, self.weights(modality))

    def better_without(self, modality):
        """By how much the fused output is better without a modality."""
        gains = self.worth_without(modality) - self.worth("fused")
        return Estimate(gains, self.found.weights)

    def cost(self, modality):
        """What the fused output loses without a modality."""
        losses = self.worth("fused") - self.worth_without(modality)
        return Estimate(losses, self.found.weights)

    def cope(self, modality):
        """What the fused output without it loses to the best of the others.

        Returns:
            Tuple of the name of that other and an `Estimate`; `None` where
            there is no other.
        """
        others = [m for m in self.scored if m != modality]
        if not others:
            return None
        best = max(
            others,
            key=lambda m: Estimate(self._worths[m], self.weights(m)).mean,
        )
        losses = self.worth(best) - self.worth_without(modality)
        return best, Estimate(losses, self.weights(best))

    def luck(self, output):
        weights = self.weights(output)
        return luck(
            self.task, self.found.outputs[output], self.found.targets, weights
        )

    @property
    def unit(self):
        """What differences are large or small against.

        The whole accuracy, or the variance of the labels.
        """
        if not self.is_regression:
            return 1.0
        return -Estimate(self.luck("fused"), self.found.weights).mean

    def skill(self, output):
        """How far an output is on the way from luck to perfection, 0 to 1.

        `None` where luck is perfect: where all labels are the same.
        """
        chance, weights = self.luck(output), self.weights(output)
        best = 0 if self.is_regression else 1
        room = best - Estimate(chance, weights).mean
        if room < 1e-9:
            return None
        return Estimate((self.worth(output) - chance) / room, weights)

    def part(self, modality):
        """Its Shapley part, with all that makes it uncertain."""
        part = Estimate(self.found.sample_parts[modality], self.found.weights)
        if self.found.errors is not None:
            part.error = math.hypot(part.error, self.found.errors[modality])
        return part

    def whole(self):
        """What all parts add up to."""
        parts = self.found.sample_parts.values()
        return Estimate(np.sum(list(parts), axis=0), self.found.weights)

    def confidence(self):
        z, weights = self.found.outputs["fused"], self.found.weights
        return Estimate(confidence(self.task, z), weights)

    def too_sure(self):
        """How much more sure the fused output is than it is right."""
        sure = confidence(self.task, self.found.outputs["fused"])
        return Estimate(sure - self.worth("fused"), self.found.weights)

    def only_right(self):
        """Dict from modalities to the samples that only they get right.

        Right are all labels of a sample. `None` for a regression.
        """
        if self.is_regression:
            return None
        counted = self.found.weights > 0
        right = {
            m: counted & (self.worth(m) == 1) & (self.weights(m) > 0)
            for m in self.modalities
        }
        number = np.sum(list(right.values()), axis=0)
        return {m: np.flatnonzero(r & (number == 1)) for m, r in right.items()}

    def share(self, samples):
        return float(self.found.weights[samples].sum())

    def fused_right(self, samples):
        """The share of some samples that the fused output gets right."""
        weights = self.found.weights[samples]
        if not len(samples):
            return None
        return float(weights @ (self.worth("fused")[samples] == 1)) / float(
            weights.sum()
        )

    def noise(self):
        """The difference between two outputs that noise may make."""
        return ERRORS * max(
            (self.better_alone(m).error for m in self.scored), default=0.0
        )
