"""Keras' docstrings, as mkdocstrings and Markdown read them.

They stay as they are: this is for the site alone, which `mkdocs.yml` tells.
"""

import html
import re
from textwrap import dedent

import griffe

GREEK = {
    "alpha": "α",
    "beta": "β",
    "lambda": "λ",
    "mu": "μ",
    "phi": "φ",
    "rho": "ρ",
    "sum": "∑",
    "tau": "τ",
    "theta": "θ",
}
SIGNS = {"<=": "≤", ">=": "≥", "*": "·", "-": "−"}
NAME = r"[A-Za-z]\w*"
TOKEN = re.compile(rf"\^\w+|{NAME}|<=|>=|\S|\s+")
COSTS = {
    "losses": "that of a plain one: one forward and one backward pass.",
    "gramian": "one forward pass and K backward passes, for the Gramian.",
    "gradients": "one forward pass and K backward passes; nothing saves any.",
}
SECTION = re.compile(r"^(?:Args|Raises|Returns|Call arguments|Example):$", re.M)
CODE_PARAGRAPH = re.compile(r"(?<=\n\n)`([^`]*)`(?=\n(?:\n|[a-z]))")
INDENTED = re.compile(r"(?<=\n\n)((?:    \w[^`]*?(?:\n|$))+)")


def name_to_html(name):
    """A name: letters are variables and slope, words stand upright."""
    base, _, index = name.partition("_")
    text = GREEK.get(base, base)
    if len(text) == 1 and text.isalpha():
        text = f"<i>{text}</i>"
    return f"{text}<sub>{index}</sub>" if index else text


def token_to_html(token):
    if token.startswith("^"):
        return f"<sup>{name_to_html(token[1:])}</sup>"
    if re.fullmatch(NAME, token):
        return name_to_html(token)
    return html.escape(SIGNS.get(token, token))


def formula_to_html(text):
    """Our plain formulas, set: indices below, Greek letters, signs."""
    parts = [token_to_html(token) for token in TOKEN.findall(text)]
    return f'<p class="formula">{"".join(parts).strip()}</p>\n'


def prepare(text):
    """A docstring of ours, as Google's style and Markdown have it."""
    first = SECTION.search(text)
    end = first.start() if first else len(text)
    head, rest = text[:end], text[end:]
    head = CODE_PARAGRAPH.sub(lambda m: formula_to_html(m[1]), head)
    head = INDENTED.sub(lambda m: formula_to_html(dedent(m[1])) + "\n", head)
    rest = re.sub(
        r"^Call arguments:$", "Args: Call arguments", rest, flags=re.M
    )
    text = head + rest
    text = re.sub(r"^(Example|Reference):$", r"**\1**", text, flags=re.M)
    # Links whose address has a line of its own.
    return re.sub(r"\]\(\s+", "](", text)


def cost(combiner):
    """What a step with a combiner costs, by what its class says it needs.

    `None` for a wrapper: its docstring tells.
    """
    if any(base.name == "CombinerWrapper" for base in combiner.mro()):
        return None
    members = {**combiner.inherited_members, **combiner.members}
    if members["looks_again"].value == "True":
        return "one forward pass more than a plain one."
    return COSTS[members["needs"].value.strip("'\"")]


class KerasDocstrings(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = prepare(obj.docstring.value)

    def on_package(self, *, pkg, **kwargs):
        combiners = pkg["combiners"]
        for name in combiners.exports:
            found = combiners[name]
            found = found.final_target if found.is_alias else found
            words = cost(found) if found.is_class else None
            if words:
                found.docstring.value += f"\n\n**Cost of a step**: {words}\n"
