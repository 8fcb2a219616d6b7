"""Take the README's picture of a page: ``python tools/screenshot.py runs/demo/report.html docs/images/page.png``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(page_file: str, picture: str) -> None:
    """The part of the page from the curves to the end of the features, at desk width."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 900}, color_scheme="light")
        page.goto(Path(page_file).resolve().as_uri())
        page.wait_for_timeout(1000)
        boxes = [
            page.locator(f"section:has(h2:text-is('{title}'))").bounding_box() for title in ("Training", "All features")
        ]
        top, bottom = boxes[0]["y"], boxes[1]["y"] + boxes[1]["height"]
        page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": top, "width": 1180, "height": bottom - top})
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
