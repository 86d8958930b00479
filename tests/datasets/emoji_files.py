"""Files as those of the emoji packages, of emoji that are easily told apart."""

import io
import json

from PIL import Image

from tests.datasets.archives import write_npm

# Of a head, a medium and a tail class, in the training part of the example.
COUNTS = {"circle": 40, "arrow": 15, "heart": 6}
COLORS = {"circle": (230, 30, 30), "arrow": (30, 200, 30), "heart": (0, 0, 200)}


def write_emoji(folder):
    """Both packages, of emoji that are easily told apart."""
    names = [name for name, count in COUNTS.items() for _ in range(count)]
    entries, tags, pictures = [], [], {}
    for number, name in enumerate(names):
        code = f"{0x1F600 + number:X}"
        entries.append(
            {
                "unified": code,
                "short_name": f"number_{number}",
                "category": "Symbols",
                "subcategory": name,
                "has_img_google": True,
            }
        )
        tags.append({"hexcode": code, "tags": [f"kind of {name}", "all"]})
        file = io.BytesIO()
        Image.new("RGB", (64, 64), COLORS[name]).save(file, "PNG")
        pictures[f"img/google/64/{code.lower()}.png"] = file.getvalue()
    write_npm(
        folder / "emoji-datasource-google-16.0.0.tgz",
        {"emoji.json": json.dumps(entries).encode(), **pictures},
    )
    write_npm(
        folder / "emojibase-data-17.0.0.tgz",
        {"en/data.json": json.dumps(tags).encode()},
    )
    return folder
