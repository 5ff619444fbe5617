#!/usr/bin/env python3
"""Let a real Prometheus and Alertmanager, with the files of deploy/prometheus/, watch a Ginkgo.

    deploy/trials/alerting.py --url http://127.0.0.1:8000 --token-file viewer.token \\
        --wait-for GinkgoWatcherAway

Both run in a new folder on ports of their own and deliver to a web server of this script, which
prints what arrives. The dead man's switch comes first: it proves that alerts are delivered. Then
break something in Ginkgo, until the alert of --wait-for arrives. Only addresses and paths differ
from the files. Needs `apt-get install prometheus prometheus-alertmanager`.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from machine import free_ports, say

FILES = Path(__file__).parents[1] / "prometheus"
RECEIVERS = ("on-call", "tickets", "dead-mans-switch")


class Webhook(ThreadingHTTPServer):
    """Keeps the alerts that Alertmanager delivers, by the receiver in the path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Delivery)
        #: Receiver, name of the alert, status, summary.
        self.delivered: queue.Queue[tuple[str, str, str, str]] = queue.Queue()


class Delivery(BaseHTTPRequestHandler):
    """Puts the alerts of one request of Alertmanager into `delivered` of its server."""

    server: Webhook

    def do_POST(self) -> None:
        for alert in json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"]:
            labels, summary = alert["labels"], alert["annotations"]["summary"]
            delivered = (self.path[1:], labels["alertname"], alert["status"], summary)
            self.server.delivered.put(delivered)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *given: object) -> None:
        """Print no line for each request."""


def main() -> None:
    args = parse()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ginkgo-alerting-")))
        webhook = stack.enter_context(Webhook())
        threading.Thread(target=webhook.serve_forever, daemon=True).start()
        stack.callback(webhook.shutdown)
        prometheus, alertmanager = free_ports(2)
        write_files(folder, args, alertmanager, webhook.server_port)
        check_metrics(args)
        for words in (
            ["prometheus-alertmanager", "--config.file=alertmanager.yml",
             "--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{alertmanager}",
             "--storage.path=alertmanager"],
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=prometheus",
             f"--web.listen-address=127.0.0.1:{prometheus}"],
        ):  # fmt: skip
            log = stack.enter_context((folder / f"{words[0]}.log").open("w"))
            process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        began = time.monotonic()
        for name in ("GinkgoDeadMansSwitch", args.wait_for):
            if not wait_for(webhook, name, began, args.limit):
                print_logs(folder)
                sys.exit(f"{name} was not delivered within {args.limit:g} s of the start")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", required=True, action="append", help="a web process; repeatable")
    parser.add_argument(
        "--token-file",
        required=True,
        type=Path,
        help="output of create_api_token prometheus --create --role viewer --scope read",
    )
    parser.add_argument("--wait-for", required=True, metavar="ALERT", help="it has to arrive")
    parser.add_argument("--limit", type=float, default=180.0, metavar="SECONDS", help="to arrive")
    return parser.parse_args()


def write_files(folder: Path, args: argparse.Namespace, alertmanager: int, webhook: int) -> None:
    """Copy the configuration of Prometheus and Alertmanager into `folder`, adapted to this trial.

    Prometheus scrapes the web processes of --url. Alertmanager listens on the port `alertmanager`
    and sends to the port `webhook`.
    """
    targets = json.dumps([urlsplit(url).netloc for url in args.url])
    text = (FILES / "prometheus.yml").read_text(encoding="utf-8")
    lines = []
    for line in text.replace("127.0.0.1:9093", f"127.0.0.1:{alertmanager}").splitlines():
        if line.strip().startswith("- targets:"):
            line = f"{line[: line.index('[')]}{targets}"
        lines.append(line.replace("/etc/prometheus/ginkgo.token", str(args.token_file.resolve())))
    (folder / "prometheus.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "ginkgo.rules.yml").write_bytes((FILES / "ginkgo.rules.yml").read_bytes())
    text = (FILES / "alertmanager.yml").read_text(encoding="utf-8")
    (folder / "alertmanager.yml").write_text(
        text.replace("/etc/prometheus", str(folder)), encoding="utf-8"
    )
    for name in RECEIVERS:
        (folder / f"{name}.url").write_text(f"http://127.0.0.1:{webhook}/{name}", encoding="utf-8")


def check_metrics(args: argparse.Namespace) -> None:
    """Print what `promtool check metrics` says of the metrics of the first web process."""
    token = args.token_file.read_text(encoding="utf-8").strip()
    request = urllib.request.Request(
        f"{args.url[0]}/api/metrics",
        headers={"Authorization": f"Bearer {token}", "X-Forwarded-Proto": "https"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read()
    ended = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    say(f"promtool check metrics: {ended.returncode} {ended.stderr.decode()}")


def wait_for(webhook: Webhook, name: str, began: float, limit_s: float) -> bool:
    """Print what is delivered until the alert `name` fires. Return whether it fired in time.
    The time is `limit_s`, counted from `began`, a monotonic time."""
    while (left := began + limit_s - time.monotonic()) > 0:
        try:
            receiver, alert, status, summary = webhook.delivered.get(timeout=left)
        except queue.Empty:
            return False
        say(f"{time.monotonic() - began:6.1f} s  {receiver}: {alert} {status}: {summary}")
        if (alert, status) == (name, "firing"):
            return True
    return False


def print_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        print(f"--- {log.name}\n{log.read_text(encoding='utf-8')[-4000:]}", file=sys.stderr)


if __name__ == "__main__":
    main()
