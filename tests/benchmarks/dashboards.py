"""TensorBoard as a reader sees it: `python tests/benchmarks/dashboards.py LOGDIR OUT [chromium]`.

Starts TensorBoard on LOGDIR, opens each dashboard in a headless Chromium, waits until its charts are there, keeps a
screenshot in OUT and prints how many charts it found. Exit code 1 where a dashboard lacks what it should show, or a
page reports an error. Needs `pip install playwright` and a Chromium (chromium, by default).
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from bayesrl.training.tags import LAYOUT

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 120_000  # milliseconds, for a busy machine
# dashboard: what a chart of it is in the page, and how many there are to be
WANTED = {
    "timeseries": ("card-view scalar-card", 4),
    "custom_scalars": (
        "tf-custom-scalar-multi-line-chart-card, tf-custom-scalar-margin-chart-card",
        sum(map(len, LAYOUT.values())),
    ),
    "images": ("tf-image-loader img", 2),
    "histograms": ("tf-histogram-loader", 2),
    "hparams": ("vaadin-grid, tf-hparams-table-view", 1),
}


@contextlib.contextmanager
def tensorboard(logdir: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logdir, "--port", str(port), "--load_fast=false"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://localhost:{port}"
        for _ in range(PATIENCE // 1000):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/data/runs", timeout=5).read()
                break
            time.sleep(1)
        time.sleep(5)  # the runs are read
        yield address
    finally:
        process.terminate()
        process.wait()


def unfold(page: Page) -> None:
    """Open every category of the custom scalars."""
    for heading in page.locator("tf-category-paginated-view button.heading").all():
        if heading.get_attribute("open-button") is None:
            heading.click()


def main(logdir: str, out: str, chromium: str = "chromium") -> int:
    Path(out).mkdir(parents=True, exist_ok=True)
    problems = []
    with tensorboard(logdir) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(chromium), args=FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 1300})
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
        page.on("console", lambda line: problems.append(f"console: {line.text}") if line.type == "error" else None)
        for name, (charts, least) in WANTED.items():
            page.goto(f"{address}/#{name}")
            page.reload()
            found = page.locator(charts)
            try:
                found.first.wait_for(state="attached")
                if name == "custom_scalars":
                    unfold(page)
                found.nth(least - 1).wait_for(state="attached")
            except Exception as error:
                problems.append(f"{name}: {error}")
            page.wait_for_timeout(4000)  # drawn
            page.screenshot(path=Path(out) / f"{name}.png", full_page=False)
            print(f"{name:16} {found.count()} charts", flush=True)
            if found.count() < least:
                problems.append(f"{name}: got {found.count()} charts, wanted {least} or more")
        browser.close()
    print("\n".join(problems) or "no page error")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
