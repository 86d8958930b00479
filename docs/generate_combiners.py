"""Writes the tables of `docs/combiners.md` from the public combiners.

    python docs/generate_combiners.py
    python docs/generate_combiners.py --check

What stands between the two marks in that file is replaced, the rest is written
by hand. With `--check` nothing is written, and the exit status is 1 if the file
is not what would be.
"""

import argparse
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from keras_mimo import combiners
from keras_mimo.combiners import identifiers
from keras_mimo.combiners.wrapper import CombinerWrapper

PAGE = Path(__file__).parent / "combiners.md"
BEGIN = "<!-- written by generate_combiners.py: begin -->\n"
END = "<!-- written by generate_combiners.py: end -->\n"

# In the order of the page: the title, and what all of a group have in common.
GROUPS = {
    "losses": (
        "Combiners of losses",
        "They need the K losses and nothing else. A step costs what a step of "
        "plain Keras costs: one forward pass and one backward pass.",
    ),
    "looks_again": (
        "Combiners of losses that look again",
        "They need the K losses before and after the update. A step costs one "
        "forward pass more than one of plain Keras.",
    ),
    "gramian": (
        "Combiners of gradients",
        "They need the Gramian, the inner products of the K gradients. A step "
        "costs one forward pass and K backward passes, unless `EveryN`, "
        "`gradients_at=` or `balanced_variables=` saves some of them. K "
        "gradients are in memory at once.",
    ),
    "gradients": (
        "Combiners of coordinates",
        "They need the K gradients themselves and treat every coordinate on "
        "its own. The passes and the memory are those of a combiner of "
        "gradients, and none can be saved by `EveryN` or `gradients_at=`. "
        "There are no weights to log, and `blocks=` and the wrappers are not "
        "for them.",
    ),
}


class Guarantee(NamedTuple):
    """A trait in words: in the table, in full, and what it says as well."""

    words: str
    meaning: str
    implies: tuple = ()


GUARANTEES = {
    "non_conflicting": Guarantee(
        "no objective gets worse",
        "To first order, a small step along the update raises no active loss.",
    ),
    "non_conflicting_if_independent": Guarantee(
        "none gets worse if independent",
        "The same, in steps in which no gradient is a linear combination of "
        "the others.",
    ),
    "convex": Guarantee(
        "weights ≥ 0, of sum 1",
        "The update lies between the gradients: it is one of their weighted "
        "means.",
        ("nonnegative",),
    ),
    "nonnegative": Guarantee(
        "weights ≥ 0", "No gradient is followed backwards."
    ),
    "linear_under_scaling": Guarantee(
        "linear in the lengths",
        "At the same losses, the update is a linear function of the lengths of "
        "the gradients: a gradient of twice the length contributes twice as "
        "much.",
        ("homogeneous",),
    ),
    "scale_invariant": Guarantee(
        "lengths do not matter",
        "The update depends on the directions of the gradients alone. It does "
        "not shrink as they do, so decay the learning rate.",
    ),
    "homogeneous": Guarantee(
        "scales with the gradients",
        "At the same losses, all gradients times a number give the update "
        "times that number, so that the learning rate means what it usually "
        "means.",
    ),
    "permutation_equivariant": Guarantee(
        "any order", "The order of the objectives does not matter."
    ),
}
STATES = {
    "stateful": "depends on earlier steps",
    "random": "random in training",
    "trainable": "learnt by the optimizer",
}


class Wrapper(NamedTuple):
    """What a wrapper makes of the combiner in it, which its class can't say."""

    cost: str
    guarantees: str
    state: str


WRAPPERS = {
    "EveryN": Wrapper(
        "one backward pass, and K in one step out of `n`",
        "Those of the wrapped combiner, in the steps in which it is asked. In "
        "between the weights are the old ones for new gradients: none below 0 "
        "if none was, and no objective is protected.",
        "the kept weights, and where it is in its period",
    ),
    "MoCo": Wrapper(
        "a Gramian, and K copies of the balanced variables",
        "Those of the wrapped combiner, for the averaged gradients; those of "
        "the step may be others. Weights ≥ 0 stay so.",
        "the average of each gradient",
    ),
    "Rescaled": Wrapper(
        "a Gramian, whatever it wraps",
        "The direction stays, and with it that no objective gets worse. The "
        "sum of the weights changes.",
        "none",
    ),
    "Smoothed": Wrapper(
        'that of the combiner; with `of="gramian"`, a Gramian',
        "Weights ≥ 0 stay so. That no objective gets worse is not certain any "
        'more: with `of="gramian"` it holds for the averaged Gramian, and '
        "that of the step may be another.",
        "the average",
    ),
}

# One sentence each, which no docstring says: what speaks for it, and against.
WHEN = {
    "AlignedMTLCombiner": "Some gradients dominate the others; you accept that "
    "an objective may get worse, and no gradient is some hundred times shorter "
    "than the longest.",
    "CAGradCombiner": "The mean loss is the goal and the worst objective "
    "should gain on the way; some conflict may remain.",
    "ConFIGCombiner": "A few terms with independent gradients, such as those "
    "of a physics-informed loss, should all gain.",
    "ConstantCombiner": "You can afford to search for the weights.",
    "DWACombiner": "Training takes many epochs, in which some losses fall "
    "faster than others; within an epoch nothing adapts.",
    "DualProjCombiner": "No objective may get worse, and where none does under "
    "the mean gradient, that is what you want.",
    "EveryN": "A combiner of gradients takes too long, and its logged weights "
    "change slowly.",
    "ExcessMTLCombiner": "Some labels are noisy, and the losses that they keep "
    "high should not get more weight; it keeps K copies of the balanced "
    "variables.",
    "FAMOCombiner": "All losses should fall at the same relative rate and K "
    "backward passes are too many; it reacts over many steps, not in one.",
    "FairGradCombiner": "As Nash-MTL, with a number to set how equal the gains "
    "are; with `alpha` above 1 steps get longer as gradients vanish.",
    "GBlendingCombiner": "Some modalities of a multi-modal model overfit and "
    "others do not; `callbacks.GradientBlending` measures how much, which "
    "trains each objective alone, again and again.",
    "GLSCombiner": "Positive losses of different scales; never with a loss "
    "that reaches 0 or is negative.",
    "GradDropCombiner": "Objectives disagree in single coordinates and noise "
    "in the updates does no harm.",
    "GradNormCombiner": "Some losses fall more slowly than others and their "
    "gradients are shorter; compare gradients in the last shared layer alone, "
    "which makes it cheap.",
    "GradVacCombiner": "Objectives are alike, as languages or domains of one "
    "task are, and similar gradients should help each other.",
    "IMTLGCombiner": "Every objective should advance as much per unit of its "
    "gradient; watch the logged weights, for one below 0 can make all worse.",
    "IMTLLCombiner": "Positive losses should count the same whatever their "
    "scale; close to `uncertainty`.",
    "KrumCombiner": "Some objectives or sources of data may be faulty; by "
    "default one gradient alone is followed, and it needs four.",
    "MGDACombiner": "Objectives conflict, none may get worse, and batches are "
    "large: with small ones the step follows the noise and can vanish.",
    "MIMOCombiner": "A multi-modal model has a fused objective, and one "
    "modality lags behind.",
    "MMParetoCombiner": "The encoders of a multi-modal model conflict with the "
    "fused objective; give it one block for each of them.",
    "MeanCombiner": "As the sum, with steps that do not grow with the number "
    "of objectives.",
    "MoCo": "Batches are small and the direction follows their noise; "
    "`Smoothed` takes no memory and leaves more of it.",
    "NashMTLCombiner": "Losses have different scales, and each should gain in "
    "every step; decay the learning rate.",
    "PCDCombiner": "One objective is what you train for, and the others should "
    "not be left behind altogether.",
    "PCGradCombiner": "You compare with a paper that uses it; from three "
    "objectives on conflicts may remain.",
    "RLWCombiner": "You want a control: what is not better than random weights "
    "balances nothing.",
    "Rescaled": "The steps of a combiner get shorter and shorter, or have a "
    "length to which no learning rate fits.",
    "STCHCombiner": "The worst loss matters most, and losses have the same "
    "unit; or you want one certain trade-off.",
    "Smoothed": "Batches are small and the weights jump from step to step.",
    "SumCombiner": "Always, first: a combiner that is not better is not worth "
    "its cost.",
    "TrimmedMeanCombiner": "Of three or more objectives some may be faulty or "
    "have outliers; what few agree on is lost.",
    "UPGradCombiner": "No objective may get worse, and one with a longer "
    "gradient should keep its larger share.",
    "UncertaintyCombiner": "Positive losses of different units or noise, such "
    "as regression beside classification.",
}


def public_combiners():
    """The public classes that do something, by the names of the classes."""
    names = sorted(combiners.__all__, key=str.lower)
    return {
        cls.__name__: cls
        for cls in (getattr(combiners, name) for name in names)
        if inspect.isclass(cls)
        and cls.call is not combiners.BalancedGradientCombiner.call
    }


def check_entries(title, entries, expected):
    """Raises `ValueError` unless there is one entry for each."""
    missing = sorted(set(expected) - set(entries))
    unknown = sorted(set(entries) - set(expected))
    if missing or unknown:
        raise ValueError(
            f"`{title}` must have one entry for each of the public combiners. "
            f"Missing: {missing}, unknown: {unknown}"
        )


def group(cls):
    if cls.needs == "losses" and cls.looks_again:
        return "looks_again"
    return cls.needs


def spelling(cls):
    """What to write in `combiner=`: the name, if it has one, and the class."""
    known = {type(combiners.get(name)): name for name in identifiers.names()}
    if cls in known:
        return f'`"{known[cls]}"` or `{cls.__name__}()`'
    required = [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return f"`{cls.__name__}({', '.join(required)})`"


def guarantees(cls):
    """The traits in words, without those that another one implies."""
    implied = {
        other
        for trait in cls.traits & set(GUARANTEES)
        for other in GUARANTEES[trait].implies
    }
    return [
        guarantee.words
        for trait, guarantee in GUARANTEES.items()
        if trait in cls.traits - implied
    ]


def references(cls):
    """The items of the docstring's section of references, as Markdown."""
    _, _, section = inspect.getdoc(cls).partition("\nReference:\n")
    items = re.split(r"^- ", section, flags=re.M)[1:]
    items = [re.sub(r"\s+", " ", item).strip() for item in items]
    return [item.replace("( http", "(http") for item in items]


def takes_preference(cls):
    return "preference" in inspect.signature(cls).parameters


def table(titles, rows):
    lines = [titles, ["---"] * len(titles), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def last_cells(cls):
    return [WHEN[cls.__name__], "; ".join(references(cls))]


def row(cls):
    states = [words for trait, words in STATES.items() if trait in cls.traits]
    return [
        spelling(cls),
        summary(cls),
        "; ".join(guarantees(cls)),
        "; ".join(states) or "none",
        "yes" if takes_preference(cls) else "no",
        *last_cells(cls),
    ]


def wrapper_row(cls):
    return [
        spelling(cls),
        summary(cls),
        *WRAPPERS[cls.__name__],
        *last_cells(cls),
    ]


def summary(cls):
    return inspect.getdoc(cls).splitlines()[0]


def section(title, text, *parts):
    text = textwrap.fill(text, 80, break_on_hyphens=False)
    return "\n".join([f"### {title}\n", f"{text}\n", *parts])


def generated():
    """What belongs between the marks."""
    classes = public_combiners()
    check_entries("WHEN", WHEN, classes)
    wrappers = [c for c in classes.values() if issubclass(c, CombinerWrapper)]
    check_entries("WRAPPERS", WRAPPERS, [c.__name__ for c in wrappers])
    chosen = [c for c in classes.values() if c not in wrappers]
    traits = {trait for cls in chosen for trait in cls.traits}
    check_entries("GUARANTEES and STATES", {**GUARANTEES, **STATES}, traits)

    head = ["combiner", "what it does"]
    tail = ["when", "reference"]
    middle = ["guarantees", "state", "`preference=`"]
    sections = [
        section(
            title,
            text,
            table(
                head + middle + tail,
                [row(cls) for cls in chosen if group(cls) == key],
            ),
        )
        for key, (title, text) in GROUPS.items()
    ]
    sections.append(
        section(
            "Wrappers",
            "They change what another combiner does. They declare no traits: "
            "what holds depends on what they wrap.",
            table(
                [*head, "needs and cost", *middle[:2], *tail],
                map(wrapper_row, wrappers),
            ),
        )
    )
    words = [
        [guarantee.words, f"`{trait}`", guarantee.meaning]
        for trait, guarantee in GUARANTEES.items()
    ]
    sections.append(
        section(
            "What the guarantees mean",
            "A class declares them as its `traits`, and the tests hold it to "
            "them. They hold up to rounding, with the default arguments, for "
            "the gradients that the combiner was given.",
            table(["words", "trait", "meaning"], words),
        )
    )
    return "\n" + "\n".join(sections) + "\n"


def renewed(page):
    """The text of the page with what belongs between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            "The page must hold the two lines between which the tables go, "
            f"{BEGIN!r} and {END!r}."
        )
    return before + begin + generated() + end + after


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Writes the tables of docs/combiners.md."
    )
    parser.add_argument(
        "--check", action="store_true", help="only say if the file differs"
    )
    options = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    expected = renewed(page)
    if not options.check:
        PAGE.write_text(expected, encoding="utf-8")
    elif page != expected:
        print(f"{PAGE} differs: run `python docs/generate_combiners.py`.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
