"""The page of `mlic.app`. Imports Gradio, an extra."""

import html
import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]
from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]
from starlette.middleware.trustedhost import TrustedHostMiddleware  # pyright: ignore[reportMissingImports]

from mlic.data.images import BadImageError
from mlic.errors import InputError
from mlic.inference.corrections import CORRECTIONS_FILE, add_correction
from mlic.inference.labelling import PhotographLabeller, ScoredPhotograph, score_table

logger = logging.getLogger(__name__)

STRICTNESS = "Moves all thresholds. To the right, fewer labels are given, and more of them are right."
SIMILAR = "Why does it say so? Similar training photographs, the cosine of their features, and their labels."
LOCAL_HOSTS = ("127.0.0.1", "localhost")
Photographs = list[ScoredPhotograph]


class Page:
    """The components of the page, and what they do.

    Text of others (names of files and labels) is escaped, and never passed as Markdown, which could load images from
    an address.
    """

    def __init__(self, labeller: PhotographLabeller, corrections: Path) -> None:
        """Show the labels of `labeller`, and write corrections to a folder."""
        self.labeller, self.corrections = labeller, corrections
        self.classes, run = list(labeller.classifier.classes), labeller.classifier.saved
        name = (run.folder or run.checkpoint).name
        network = f"{labeller.classifier.backbone.name}, {len(self.classes)} labels. Photographs stay on this computer."
        picture: dict[str, Any] = {"show_label": False, "interactive": False, "buttons": []}
        gallery: dict[str, Any] = {**picture, "object_fit": "contain"}
        with gr.Blocks(analytics_enabled=False, title=f"mlic: {name}") as self.blocks:
            gr.HTML(f"<h2>{html.escape(name)}</h2>{_paragraphs(network)}")
            with gr.Row():
                with gr.Column():
                    files = gr.File(label="Drop photographs", file_count="multiple", height=160)
                    strictness = gr.Slider(-4, 4, 0, step=0.1, label="Strictness", info=STRICTNESS)
                    messages = gr.HTML(_paragraphs(*labeller.not_available), elem_id="messages")
                given = gr.Gallery(
                    elem_id="photographs", columns=3, height=440, allow_preview=False, **gallery
                )
            with gr.Row():
                with gr.Column():
                    table = gr.HTML(elem_id="scores")
                    right = gr.Dropdown(self.classes, multiselect=True, label="Labels", elem_id="right")
                    save = gr.Button("A label is wrong: save these labels")
                    saved = gr.HTML(elem_id="saved")
                with gr.Column():
                    label = gr.Dropdown(self.classes, label="Regions that support", elem_id="label")
                    overlay = gr.Image(elem_id="map", height=400, **picture)
            gr.HTML(_paragraphs(SIMILAR))
            similar = gr.Gallery(elem_id="similar", columns=6, height=240, **gallery)

            photograph = [gr.State([]), gr.State(0)]  # all photographs, and the number of the chosen one
            shown = [given, table, right, label, similar, saved]
            private: dict[str, Any] = {"api_visibility": "private"}
            received = files.change(self._receive, files, [*photograph, messages], **private)
            chosen = given.select(_index, None, photograph[1], **private)
            for event in (received, chosen):
                event = event.then(self._show, [*photograph, strictness], shown, **private)
                event.then(self._draw_map, [*photograph, label], overlay, **private)
            # while the slider moves, only its last value is computed
            last = {"trigger_mode": "always_last", **private}
            strictness.change(self._show, [*photograph, strictness], shown, **last)
            label.input(self._draw_map, [*photograph, label], overlay, **private)
            save.click(self._correct, [*photograph, right], saved, **private)

    def _receive(self, files: list[str] | None) -> tuple[Photographs, int, str]:
        photographs, problems = [], list(self.labeller.not_available)
        for path in map(Path, files or ()):
            try:
                photographs.append(self.labeller.score(path))
            except BadImageError as error:
                problems.append(f"{path.name}: {error.reason}")
        return photographs, 0, _paragraphs(*problems)

    def _show(self, photographs: Photographs, chosen: int, strictness: float) -> tuple[Any, ...]:
        if not photographs:
            return [], "", [], None, [], ""
        labels = [self.labeller.labels(photograph, strictness) for photograph in photographs]
        pairs = zip(photographs, labels, strict=True)
        images = [(photograph.thumbnail, ", ".join(own) or "no label") for photograph, own in pairs]
        shown, thresholds = photographs[chosen], self.labeller.thresholds(strictness)
        table, best = score_table(self.classes, shown, thresholds), self.classes[shown.ranking()[0]]
        given, similar = gr.Gallery(images, selected_index=chosen), self.labeller.similar(shown)
        return given, table, labels[chosen], best, similar, ""

    def _draw_map(self, photographs: Photographs, chosen: int, label: str | None) -> Any:
        return self.labeller.activation_map(photographs[chosen], label) if photographs and label else None

    def _correct(self, photographs: Photographs, chosen: int, labels: list[str]) -> str:
        if not photographs:
            return "Drop a photograph first."
        try:
            name = add_correction(self.corrections, photographs[chosen].path, labels)
            return _paragraphs(f"Saved as {name} in {self.corrections / CORRECTIONS_FILE}.")
        except (InputError, OSError) as error:
            return _paragraphs(f"Not saved: {error}")


def serve(
    labeller: PhotographLabeller, corrections: Path, *, host: str, port: int | None, max_megabytes: float
) -> None:
    """Serve the page until the process is interrupted. Uploads are in a temporary folder, which is then removed.

    Args:
        labeller: the run.
        corrections: folder for corrected photographs.
        host: address of this computer on which the page is served.
        port: port of the page; None for the first free one from 7860 on.
        max_megabytes: size of an upload in 10^6 bytes; a larger one is refused. For the number of pixels see
            `mlic.data.open_image`.

    Raises:
        InputError: the port is in use, or the computer does not have this address.
    """
    # A page of another site whose name suddenly stands for this computer (DNS rebinding) is refused.
    hosts = list(LOCAL_HOSTS) if host in LOCAL_HOSTS else ["*"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]
    # the themes of Gradio bring fonts along, or load them from Google
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    with TemporaryDirectory(prefix="mlic-app-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = Page(labeller, corrections).blocks
        try:
            _, address, _ = page.launch(
                server_name=host, server_port=port, share=False, run_history=False, footer_links=[], quiet=True,
                theme=theme, css_paths=Path(__file__).with_name("app.css"), prevent_thread_lock=True,
                max_file_size=int(max_megabytes * 1e6), app_kwargs={"middleware": middleware},
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"port={port}: host={host} cannot be served ({error}).", key="port") from error
        logger.info("%s shows the page, Ctrl-C ends it; corrections go to '%s'", address, corrections)
        if host not in LOCAL_HOSTS:
            logger.warning("everybody who reaches this computer can open the page, without a password")
        page.block_thread()


def _index(event: gr.SelectData) -> int:
    return event.index


def _paragraphs(*sentences: str) -> str:
    return "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
