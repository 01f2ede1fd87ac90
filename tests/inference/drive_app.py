"""Uses the page of mlic.app in Chromium as a person does; runs in the environment of the extra `app`.

python drive_app.py <chromium> <address> <photograph> <photograph> <another file>     prints what was seen, as JSON
"""

import json
import sys
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright  # pyright: ignore[reportMissingImports]


def use(page: Page, files: list[str]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    page.set_input_files("input[type=file]", files)
    captions = page.locator("#photographs .caption-label")
    expect(captions).to_have_count(2)
    overlay = page.locator("#map img")
    expect(overlay).to_be_visible()
    expect(page.locator("#similar img").first).to_be_visible()
    seen["messages"] = page.locator("#messages p").all_inner_texts()
    seen["rows"] = page.locator("#scores tr").count()
    seen["similar"] = page.locator("#similar .caption-label").all_inner_texts()
    seen["pictures"] = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    first, first_map = page.locator("#scores").inner_text(), overlay.get_attribute("src")

    page.locator("#label input").click()
    page.get_by_role("option").last.click()
    expect(overlay).not_to_have_attribute("src", first_map or "")
    page.locator("#photographs button.thumbnail-item").last.click()
    expect(page.locator("#scores")).not_to_have_text(first, use_inner_text=True)

    number, above = page.get_by_label("number input for Strictness"), page.locator("#scores tr.above")
    number.fill("4")
    number.press("Enter")
    expect(captions.first).to_have_text("no label")
    expect(above).to_have_count(0)
    number.fill("-4")
    number.press("Enter")
    expect(above).not_to_have_count(0)
    seen["above"] = page.locator("#scores tr.above td:first-child").all_inner_texts()

    page.locator("#right input").click()
    page.get_by_role("option").last.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="A label is wrong").click()
    expect(page.locator("#saved p")).to_contain_text("corrections.csv")
    page.get_by_label("Clear").first.click()
    expect(captions).to_have_count(0)
    return seen


def main() -> None:
    chromium, address, *files = sys.argv[1:]
    outside, problems = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1400})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        page.on("request", lambda request: outside.append(request.url))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        seen = use(page, files)
        browser.close()
    local = (address, "data:", f"blob:{address}")
    seen["outside"] = [url for url in outside if not url.startswith(local)]
    print(json.dumps({**seen, "requests": len(outside), "problems": problems}))


if __name__ == "__main__":
    main()
