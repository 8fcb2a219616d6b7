"""Pictures of pages for the README and the documents.

``python tools/screenshot.py PAGE[#unit=N] PICTURE [HEIGHT] [ID ...]`` takes the part of a page that the elements named
take up, in a window of that height; without one, all of it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT, MARGIN = 1180, 1500, 12


def main(address: str, picture: str, *rest: str) -> None:
    """A part of a page, at desk width."""
    ids = [word for word in rest if not word.isdigit()]
    height = next((int(word) for word in rest if word.isdigit()), HEIGHT)
    file, _, anchor = address.partition("#")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
        page.goto(Path(file).resolve().as_uri() + (f"#{anchor}" if anchor else ""))
        for one in ids:  # what is made when it is looked at
            page.locator(f"#{one}").scroll_into_view_if_needed()
            page.wait_for_timeout(1000)
        if page.locator("#try-examples button").count() > 1:
            page.locator("#try-examples button").nth(1).click()
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(500)
        boxes = [page.locator(f"#{one}").bounding_box() for one in ids] or [page.locator("html").bounding_box()]
        left, top = (max(0, min(box[side] for box in boxes) - MARGIN) for side in "xy")
        right = min(WIDTH, max(box["x"] + box["width"] for box in boxes) + MARGIN)
        bottom = max(box["y"] + box["height"] for box in boxes) + MARGIN
        clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        page.screenshot(path=picture, full_page=True, clip=clip)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
