"""Opens every page of the built site in a browser, to find what is broken.

    make site
    python docs/check_site.py
    python docs/check_site.py --pages index.html guides/serving.html

Every page, at the width of a desktop and of a phone, in the light and in the
dark: errors on the console, what could not be loaded, pictures that do not
show, text that runs out of the page, and pages that leave it to be scrolled
sideways. Then the search box is asked for words that must be found. Screenshots
are kept in `site_screenshots/`.

It needs the package playwright and a Chromium: that of playwright, or one that
is installed (`--chromium`, by default the first of `chromium`, `google-chrome`
and `chromium-browser` on the path). Nothing but the folder of the site is
served, to this machine alone.
"""

import argparse
import contextlib
import functools
import http.server
import shutil
import sys
import threading
from pathlib import Path

from playwright import sync_api

ROOT = Path(__file__).parents[1]
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
SEARCHES = ("modality", "OGM", "missing")
# How long results may take to show.
SEARCH_MS = 10_000
BROWSERS = ("chromium", "google-chrome", "chromium-browser")

# What is wide may be scrolled by itself, as tables and code are: text that runs
# out of the page is a fault only where no box around it scrolls.
FAULTS = """() => {
  const width = document.documentElement.clientWidth;
  const faults = [];
  if (document.documentElement.scrollWidth > width)
    faults.push(`scrolls sideways: ${document.documentElement.scrollWidth}`
      + ` pixels in ${width}`);
  const scrolls = element => {
    for (let box = element; box != document.body; box = box.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(box).overflowX))
        return true;
    return false;
  };
  const main = document.querySelector(".md-content");
  const texts = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (texts.nextNode()) {
    const text = texts.currentNode;
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    if (text.textContent.trim() && box.width
        && (box.right > width + 1 || box.left < -1)
        && !scrolls(text.parentElement))
      faults.push("text runs out of the page: "
        + text.textContent.trim().slice(0, 60));
  }
  for (const image of document.images)
    if (!image.complete || !image.naturalWidth)
      faults.push(`picture does not show: ${image.src}`);
  return faults;
}"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextlib.contextmanager
def served(folder):
    """Serves a folder on this machine; gives the address."""
    handler = functools.partial(QuietHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def find_chromium(given):
    found = given or next(filter(None, map(shutil.which, BROWSERS)), None)
    return {"executable_path": found} if found else {}


def open_page(context, address, picture):
    """Opens a page, takes its picture, and returns what is wrong with it."""
    faults = []
    page = context.new_page()
    page.on(
        "console",
        lambda message: (
            message.type == "error"
            and faults.append(f"console: {message.text}")
        ),
    )
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on(
        "requestfailed",
        lambda request: faults.append(f"not loaded: {request.url}"),
    )
    page.goto(address, wait_until="load")
    faults += page.evaluate(FAULTS)
    page.screenshot(path=picture, full_page=True)
    page.close()
    return faults


def search(context, address, word):
    """Types a word into the search box, and returns the number of results."""
    page = context.new_page()
    page.goto(address)
    page.locator(".md-search__input").click()
    page.keyboard.type(word)
    results = page.locator(".md-search-result__item")
    with contextlib.suppress(sync_api.TimeoutError):
        results.first.wait_for(timeout=SEARCH_MS)
    count = results.count()
    page.close()
    return count


def check(site, pages, screenshots, chromium):
    """Checks the pages, prints what is wrong and returns how much that is."""
    faults = 0
    with served(site) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(**find_chromium(chromium))
        for name, (width, height) in WIDTHS.items():
            for scheme in SCHEMES:
                context = browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme=scheme,
                )
                for page in pages:
                    file = f"{page.removesuffix('.html').replace('/', '.')}.png"
                    folder = screenshots / f"{name}-{scheme}"
                    folder.mkdir(parents=True, exist_ok=True)
                    found = open_page(
                        context, f"{address}/{page}", folder / file
                    )
                    for fault in found:
                        print(f"{page}, {name}, {scheme}: {fault}")
                    faults += len(found)
                context.close()
        context = browser.new_context()
        for word in SEARCHES:
            count = search(context, f"{address}/index.html", word)
            print(f"search for {word}: {count} pages")
            faults += not count
        browser.close()
    return faults


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--site", type=Path, default=ROOT / "site")
    parser.add_argument("--pages", nargs="+", help="default: all of them")
    parser.add_argument(
        "--screenshots", type=Path, default=ROOT / "site_screenshots"
    )
    parser.add_argument("--chromium", help="the browser's program")
    args = parser.parse_args(arguments)
    pages = args.pages or sorted(
        file.relative_to(args.site).as_posix()
        for file in args.site.rglob("*.html")
    )
    if not pages:
        parser.error(f"no page in {args.site}: run `make site`")
    faults = check(args.site, pages, args.screenshots, args.chromium)
    looks = len(pages) * len(WIDTHS) * len(SCHEMES)
    print(f"{len(pages)} pages, {looks} looks, {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
