"""Pictures of pages for the README and the documents.

``python tools/screenshot.py PAGE[#unit=N] PICTURE [ID ...]`` takes the part of a page from the first to the last of the
elements named; without one, all of it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1180, 1500


def main(address: str, picture: str, *ids: str) -> None:
    """A part of a page, at desk width."""
    file, _, anchor = address.partition("#")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(Path(file).resolve().as_uri() + (f"#{anchor}" if anchor else ""))
        for one in ids:  # what is made when it is looked at
            page.locator(f"#{one}").scroll_into_view_if_needed()
            page.wait_for_timeout(1000)
        if page.locator("#try-examples button").count() > 1:
            page.locator("#try-examples button").nth(1).click()
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(500)
        boxes = [page.locator(f"#{one}").bounding_box() for one in ids] or [page.locator("html").bounding_box()]
        top = max(0, boxes[0]["y"] - 8)
        bottom = max(box["y"] + box["height"] for box in boxes)
        page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": top, "width": WIDTH, "height": bottom - top})
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
