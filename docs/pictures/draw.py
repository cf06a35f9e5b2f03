"""Draws the pictures of the documents as SVG, without any library: `python docs/pictures/draw.py`."""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).parent
INK, DIM, LINE, PAPER = "#1f2933", "#52606d", "#7b8794", "#ffffff"
FILLS = {"client": "#fff3d6", "scheduler": "#dcebff", "broker": "#ffe1d6", "node": "#dff5e1", "part": "#ffffff"}


class Drawing:
    """Boxes and arrows on white paper, in the order in which they are added."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = (width, height)
        self._title = title
        self._parts: list[str] = []

    def box(
        self, x: int, y: int, width: int, height: int, kind: str, title: str, *lines: str, dash: bool = False
    ) -> None:
        """A box with a bold title and lines of text below it."""
        dashes = ' stroke-dasharray="5 4"' if dash else ""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{FILLS[kind]}" '
            f'stroke="{LINE}" stroke-width="1.2"{dashes}/>'
        )
        middle = x + width / 2
        self.text(middle, y + 20, title, bold=True)
        for number, line in enumerate(lines):
            self.text(middle, y + 39 + 17 * number, line, dim=True)

    def text(
        self, x: float, y: float, text: str, *, bold: bool = False, dim: bool = False, anchor: str = "middle"
    ) -> None:
        """One line of text."""
        weight = ' font-weight="bold"' if bold else ""
        size = 12.5 if not bold else 13.5
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{DIM if dim else INK}"{weight}>'
            f"{escape(text)}</text>"
        )

    def arrow(self, *points: tuple[int, int], both: bool = False, dash: bool = False) -> None:
        """A line through these points with a head at its end, or at both ends."""
        path = " ".join(f"{'M' if at == 0 else 'L'}{x} {y}" for at, (x, y) in enumerate(points))
        start = ' marker-start="url(#head)"' if both else ""
        dashes = ' stroke-dasharray="6 4"' if dash else ""
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#head)"{start}{dashes}/>'
        )

    def svg(self) -> str:
        """The whole picture."""
        width, height = self._size
        head = (
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            f'orient="auto-start-reverse"><path d="M0 1L10 5L0 9z" fill="{INK}"/></marker></defs>'
        )
        return "\n".join(
            [
                (
                    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
                    f'height="{height}" font-family="Helvetica, Arial, sans-serif" role="img">'
                ),
                f"<title>{escape(self._title)}</title>",
                head,
                f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


def flow() -> Drawing:
    """The way of the data, for README.md."""
    d = Drawing(940, 330, "How items travel through Windrow")
    d.box(16, 96, 136, 76, "client", "client", "your script,", "or the CLI")
    d.box(
        272,
        70,
        166,
        128,
        "scheduler",
        "scheduler",
        "cuts jobs into chunks,",
        "places each on a node,",
        "keeps the books",
    )
    d.box(292, 250, 126, 58, "part", "store", "SQLite")
    d.box(562, 96, 136, 76, "broker", "RabbitMQ", "one queue", "for each node")
    d.box(790, 70, 136, 128, "node", "node", "feeds its workers,", "collects outcomes,", "spools them on disk")
    for number in (2, 1, 0):
        d.box(798 + 8 * number, 252 - 5 * number, 106, 58, "part", "worker", "your function")
    d.arrow((152, 120), (272, 120))
    d.text(212, 112, "items")
    d.arrow((272, 152), (152, 152))
    d.text(212, 169, "results")
    d.arrow((355, 198), (355, 250))
    d.text(346, 222, "first of all:", anchor="end")
    d.text(346, 238, "commit", anchor="end")
    d.arrow((438, 134), (562, 134))
    d.text(500, 126, "chunks")
    d.arrow((698, 134), (790, 134))
    d.text(744, 126, "deliver")
    d.arrow((858, 198), (858, 241), both=True)
    d.arrow((858, 70), (858, 30), (330, 30), (330, 70))
    d.text(594, 22, "reports: leases, outcomes, load")
    d.arrow((400, 198), (400, 226), (814, 226), (814, 198), dash=True)
    d.text(600, 244, "local: no RabbitMQ; chunks ride in the answers to the node")
    return d


def processes() -> Drawing:
    """Processes and threads, for ARCHITECTURE.md."""
    d = Drawing(940, 420, "Processes and threads")
    d.box(16, 40, 220, 190, "client", "process: client")
    d.box(24, 76, 204, 38, "part", "your threads")
    d.box(24, 124, 204, 38, "part", "thread windrow-io")
    d.box(24, 172, 204, 46, "part", "thread windrow-callbacks", "when there are any")
    d.box(352, 40, 236, 270, "scheduler", "process: scheduler")
    d.box(368, 76, 204, 118, "part", "one asyncio loop", "control socket, core,", "commits, pika, HTTP")
    d.box(368, 206, 204, 92, "part", "helper threads", "checkpoint of the log,", "text of /metrics", dash=True)
    d.box(16, 300, 220, 62, "broker", "process: RabbitMQ", "not there on local:", dash=True)
    d.box(704, 40, 220, 140, "node", "process: node daemon")
    d.box(720, 76, 188, 88, "part", "one asyncio loop", "reports, polls, pika,", "feeding, spool")
    d.box(704, 250, 220, 152, "node", "process: worker, one a slot")
    d.box(720, 286, 188, 46, "part", "main thread", "runs your function")
    d.box(720, 342, 188, 46, "part", "thread windrow-flusher", "sends what grows old")
    d.arrow((228, 134), (368, 134), both=True)
    d.text(294, 126, "2 REQ sockets")
    d.arrow((720, 110), (572, 110), both=True)
    d.text(646, 102, "2 REQ sockets")
    d.arrow((368, 180), (300, 180), (300, 318), (236, 318))
    d.text(308, 260, "AMQP", anchor="start")
    d.arrow((236, 346), (646, 346), (646, 146), (720, 146))
    d.text(440, 338, "AMQP")
    d.arrow((814, 164), (814, 250), both=True)
    d.text(822, 205, "socketpair,", anchor="start")
    d.text(822, 221, "shared page", anchor="start")
    d.text(
        470,
        24,
        "`windrow up` starts scheduler and nodes as child processes and starts them again when they end",
        dim=True,
    )
    return d


PICTURES = {"flow.svg": flow, "processes.svg": processes}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (HERE / name).write_text(draw().svg(), encoding="utf-8")
