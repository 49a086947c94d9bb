"""Program in the environment of `.tools/browser`: a person who submits a job in Flink's dashboard, in Chromium.

`python in_browser.py '{"url": …, "jar": …, "arguments": …, "savepoint": …, "images": …}'` prints a JSON object: `job`,
the id of the job whose page has opened and says RUNNING, or `error`, the text of the notice.
"""

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

# Chromium's own calls to other hosts are off. The sandbox of a tab does not work for root.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
NOTICE = ".ant-notification-notice"
STATE = "flink-job-status"
DEADLINE_MS = 180_000
JOB_ID_CHARS = 32


def submit(page: Page, asked: dict[str, Any]) -> dict[str, str]:
    """Upload the jar, fill the form, press Submit, and return what the dashboard shows."""
    images = Path(asked["images"])
    page.goto(f"{asked['url']}/#/submit")
    with page.expect_response(lambda answer: answer.url.endswith("/jars/upload")):
        page.set_input_files("input[type=file]", asked["jar"])
    page.reload()
    page.click(f"td:has-text('{Path(asked['jar']).name}') >> nth=0")
    page.fill("[formcontrolname=programArgs] >> visible=true", asked["arguments"])
    page.fill("[formcontrolname=savepointPath] >> visible=true", asked["savepoint"])
    page.screenshot(path=images / "dashboard-form.png")
    page.click("button:has-text('Submit') >> visible=true")
    page.wait_for_selector(f"{NOTICE}, {STATE}")
    if page.query_selector(NOTICE):
        page.wait_for_timeout(500)  # it slides in
        page.screenshot(path=images / "dashboard-error.png")
        return {"error": page.inner_text(NOTICE)}
    page.wait_for_selector(f"{STATE}:has-text('RUNNING')")
    job = next(word for word in page.url.split("/") if len(word) == JOB_ID_CHARS)
    page.wait_for_selector("svg g.node, svg .nodes")
    page.screenshot(path=images / "dashboard-running.png")
    return {"job": job}


if __name__ == "__main__":
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        opened = browser.new_page(viewport={"width": 1100, "height": 620})
        opened.set_default_timeout(DEADLINE_MS)
        sys.stdout.write(json.dumps(submit(opened, json.loads(sys.argv[1]))) + "\n")
        browser.close()
