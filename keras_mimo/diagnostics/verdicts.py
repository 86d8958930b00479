import dataclasses
import math

from keras_mimo.diagnostics.evidence import ERRORS
from keras_mimo.diagnostics.evidence import Estimate
from keras_mimo.diagnostics.words import points
from keras_mimo.diagnostics.words import reached
from keras_mimo.diagnostics.words import score

# Where the guides are, from the root of the repository.
DOCS = "docs"
# All findings must be beyond `ERRORS` standard errors, which are nothing to go
# by with fewer samples than the normal distribution needs.
FEWEST = 30
# And large enough to act on. A fusion that costs anything at all is wrong: the
# least of accuracy (or of the variance of labels) that is not splitting hairs.
HURTS = 0.01
# What is worth another training, or an argument more, is five points.
MATTERS = 0.05
# Of the way from luck to perfection, or of what all modalities add together:
# less than a tenth is next to nothing.
NOTHING = 0.1


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A finding.

    Attributes:
        kind: `"luck"`, `"hurts"`, `"sure"`, `"starved"`, `"silent"`,
            `"ignored"` or `"lost"`.
        modality: The name of the modality that it is about, or `None`.
        title: String, the finding in a few words.
        text: String, the figures that say so.
        advice: String, what to try.
        link: String, where the guide says more, or `None`.
    """

    kind: str
    modality: str | None
    title: str
    text: str
    advice: str
    link: str | None


def verdicts(figures, model):
    """What the figures of a model say beyond doubt, most urgent first.

    Args:
        figures: `Figures`.
        model: The `MultimodalModel`.

    Returns:
        List of `Verdict`, empty where nothing is wrong.
    """
    if figures.count < FEWEST:
        return []
    skill = figures.skill("fused")
    if skill is None:
        return []
    hurts = _hurts(figures, model)
    if skill.below(NOTHING) and hurts is None:
        return [_luck(figures)]
    found = [hurts, _sure(figures, model)]
    for modality in figures.scored:
        found += [
            _starved(figures, model, modality)
            or _silent(figures, model, modality)
            or _ignored(figures, model, modality)
        ]
    found = [verdict for verdict in found if verdict is not None]
    ignored = {v.modality for v in found if v.kind == "ignored"}
    lost = [_lost(figures, m, ignored) for m in figures.modalities]
    return found + [verdict for verdict in lost if verdict is not None]


def notes(figures):
    """What the figures can't tell, as a list of sentences."""
    task, count = figures.task, figures.found.num_samples
    found = []
    if figures.count < FEWEST:
        found.append(
            f"{count} samples are too few for a verdict: it takes at least "
            f"{FEWEST} of equal weight."
        )
    found.append(
        f"On these {count} samples a difference between two outputs below "
        f"about {points(task, figures.noise())} may be noise. That takes "
        "samples to be independent of each other. Where several come from one "
        "person, day or place, it is more."
    )
    found.append(
        "Whether a modality could do better than it does here, only another "
        "training can tell: on that modality alone, or with "
        'combiner="sum", which trains all of them.'
        + (
            " The probe says what an encoder knows, not what it could have "
            "learnt."
            if figures.probe
            else ""
        )
    )
    return found


def _luck(figures):
    luck = Estimate(figures.luck("fused"), figures.found.weights).mean
    fused = figures.score(figures.found.fused)
    return Verdict(
        "luck",
        None,
        "The model has learnt next to nothing",
        f"With all modalities it {reached(figures.task, fused)}; "
        f"{score(figures.task, abs(luck))} is what luck gives.",
        "Before any question of balance: train longer, with another learning "
        "rate, and look whether labels belong to their samples.",
        None,
    )


def _hurts(figures, model):
    least = HURTS * figures.unit
    alone = {m: figures.better_alone(m) for m in figures.scored}
    alone = {m: gain for m, gain in alone.items() if gain.exceeds(least)}
    without = {m: figures.better_without(m) for m in figures.modalities}
    without = {m: gain for m, gain in without.items() if gain.exceeds(least)}
    if not alone and not without:
        return None
    task, text, worst = figures.task, [], None
    if alone:
        best = max(alone, key=lambda m: alone[m].mean)
        value = figures.score(figures.found.alone[best])
        gain = points(task, alone[best].mean)
        text.append(
            f"{best} alone {reached(task, value)}. With all modalities "
            f"together it is {gain} worse, on the same samples."
        )
    if without:
        worst = max(without, key=lambda m: without[m].mean)
        value = figures.score(figures.found.lost[worst])
        gain = points(task, without[worst].mean)
        text.append(
            f"Without {worst} it {reached(task, value)}, {gain} better."
        )
    if model.calibration is None:
        advice = (
            "Weigh the modalities anew, on held-out data: "
            "keras_mimo.calibrate_fusion(model, x, y). It takes no training."
        )
        link = "multimodal.md#calibrate"
    else:
        advice = (
            "The fusion is calibrated already. Calibrate it on data as new as "
            "these, or let the features meet before the decision: "
            "keras_mimo.intermediate_fusion()."
        )
        link = "multimodal.md#fuse"
    return Verdict("hurts", worst, "Fusion hurts", " ".join(text), advice, link)


def _sure(figures, model):
    if figures.is_regression or not figures.too_sure().exceeds(MATTERS):
        return None
    return Verdict(
        "sure",
        None,
        "The model is too sure of itself",
        f"On average it says that it is {score('', figures.confidence().mean)} "
        f"sure, and {reached(figures.task, figures.fused().mean)}.",
        "Where you use its probabilities, calibrate it on held-out data: "
        "keras_mimo.calibrate_fusion(model, x, y)."
        if model.calibration is None
        else "It was calibrated on data that are easier than these. Hold data "
        "out that are as new as those to come.",
        "multimodal.md#calibrate",
    )


def _starved(figures, model, modality):
    probe = figures.probe.get(modality)
    if probe is None:
        return None
    own = Estimate(figures.worth(modality), figures.weights(modality))
    # Of two outputs as if of different samples: more than it is.
    error = math.hypot(
        own.error, math.sqrt(probe * (1 - probe) / figures.count)
    )
    if probe - own.mean < max(MATTERS, ERRORS * error):
        return None
    return Verdict(
        "starved",
        modality,
        f"{modality} is starved",
        f"A new linear head on its encoder {reached(figures.task, probe)}, its "
        f"own output {score(figures.task, own.mean)}: that has been trained "
        "too little.",
        *_balance(model),
    )


def _silent(figures, model, modality):
    skill, part = figures.skill(modality), figures.part(modality)
    whole = figures.whole()
    if skill is None or not skill.below(NOTHING) or not whole.exceeds(0):
        return None
    if not part.below(NOTHING * whole.mean):
        return None
    chance = Estimate(figures.luck(modality), figures.weights(modality)).mean
    alone = figures.score(figures.found.alone[modality])
    text = (
        f"By itself it {reached(figures.task, alone)}, where luck gives "
        f"{score(figures.task, abs(chance))}, and it adds next to nothing to "
        "the others. Either training has passed it by, or its data say nothing "
        "of the label: this model alone can't tell which."
    )
    if modality in figures.probe:
        text += (
            " A new linear head on its encoder "
            f"{reached(figures.task, figures.probe[modality])}."
        )
    return Verdict(
        "silent",
        modality,
        f"{modality} is starved, or empty",
        text,
        *_balance(model),
    )


def _ignored(figures, model, modality):
    skill, part = figures.skill(modality), figures.part(modality)
    whole = figures.whole()
    if skill is None or not skill.exceeds(NOTHING) or not whole.exceeds(0):
        return None
    least = NOTHING * whole.mean
    # One that does harm is listened to.
    if not part.below(least) or part.mean < -least:
        return None
    alone = figures.score(figures.found.alone[modality])
    calibrated = model.calibration is not None
    return Verdict(
        "ignored",
        modality,
        f"The fusion hardly listens to {modality}",
        f"By itself it {reached(figures.task, alone)}, and yet its part of "
        f"what all modalities add is {points(figures.task, part.mean)} of "
        f"{points(figures.task, whole.mean)}.",
        "Let the features meet in one trunk: keras_mimo.intermediate_fusion()."
        if calibrated
        else "Weigh the modalities anew, on held-out data: "
        "keras_mimo.calibrate_fusion(model, x, y).",
        "multimodal.md#fuse" if calibrated else "multimodal.md#calibrate",
    )


def _lost(figures, modality, ignored):
    found = figures.cope(modality)
    # One that is not listened to can't stand in, which has been said.
    if found is None or found[0] in ignored:
        return None
    best, losses = found
    # Of a fusion that hurts anyway it is not the loss that is to blame.
    losses = [losses, figures.cost(modality)]
    if not all(loss.exceeds(MATTERS * figures.unit) for loss in losses):
        return None
    alone = figures.score(figures.found.alone[best])
    lost = figures.score(figures.found.lost[modality])
    if modality in figures.found.present:
        advice = (
            "It is told which samples lack the modality, but has hardly seen "
            "any in training: drop modalities there, with "
            "keras_mimo.layers.ModalityDropout."
        )
        link = "multimodal.md#fuse"
    else:
        advice = (
            "If it may be missing in use, tell the model which samples lack "
            "it, and train with such samples: "
            f'missing={{"{modality}": float("nan")}}.'
        )
        link = "multimodal.md#samples-that-lack-a-modality"
    return Verdict(
        "lost",
        modality,
        f"The model does not cope without {modality}",
        f"Without it the fused output {reached(figures.task, lost)}, though "
        f"{best} alone {reached(figures.task, alone)}.",
        advice,
        link,
    )


def _balance(model):
    """What to try for a modality that learns too little, and where it is."""
    if not model.compiled or model._compile_arguments["combiner"] is None:
        return (
            "Give each modality a loss of its own: compile the model with "
            'combiner="sum", train it again and compare.',
            "multimodal.md#balance",
        )
    return (
        "Its own loss was in the training: give it more weight, with a larger "
        "penalty of keras_mimo.MIMOCombiner(penalty=...), and compare on "
        "held-out data.",
        "multimodal.md#what-lambda-and-mu-trade",
    )
