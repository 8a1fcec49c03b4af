"""Where an episode is shown: a window, a film, a terminal. Each takes moments one by one, as they are played."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from PIL import Image

from bayesrl.deployment.episode import Moment
from bayesrl.deployment.frames import SIZE, Frames


class ScreenError(ValueError):
    """A place to show an episode that there is not here; says what to do instead."""


INSTEAD = "mode=video to write a file, or mode=terminal, which works over ssh"


class Window:
    """A window on the screen; closing it ends the watching.

    Arguments:
        fps: frames a second.
        linger: seconds that the last frame of an episode stays.

    Raises:
        ScreenError: there is no screen, or no pygame.
    """

    def __init__(self, fps: float, linger: float = 2.0) -> None:
        try:
            import pygame
        except ImportError as error:
            raise ScreenError(
                f'got mode=window without pygame, wanted it: pip install "bayesrl[classic]", or {INSTEAD}'
            ) from error
        if not has_display():
            raise ScreenError(f"got mode=window on a machine without a display, wanted one: {INSTEAD}")
        self.pygame, self.fps, self.linger = pygame, fps, linger
        try:
            pygame.display.init()
            self.surface = pygame.display.set_mode(SIZE)
        except pygame.error as error:
            raise ScreenError(f"got '{error}' opening a window, wanted a display: {INSTEAD}") from error
        pygame.display.set_caption("bayesrl.watch")
        self.clock = pygame.time.Clock()

    def show(self, frames: Frames, history: Sequence[Moment]) -> bool:
        """Show the newest moment; whether to go on."""
        picture = frames.frame(history)
        self.surface.blit(self.pygame.image.frombytes(picture.tobytes(), SIZE, "RGB"), (0, 0))
        self.pygame.display.flip()
        stay = self.linger if history[-1].ended else 0.0
        until = time.monotonic() + stay
        while self.pygame.QUIT not in {event.type for event in self.pygame.event.get()}:
            self.clock.tick(self.fps)
            if time.monotonic() >= until:
                return True
        return False

    def close(self) -> str:
        """Let go of it; what to tell."""
        self.pygame.display.quit()
        return ""


class Terminal:
    """Text, drawn over itself on a terminal; a line for each step where the output is a file or a pipe.

    Arguments:
        fps: moments a second on a terminal.
    """

    def __init__(self, fps: float) -> None:
        self.fps, self.live = fps, sys.stdout.isatty()

    def show(self, frames: Frames, history: Sequence[Moment]) -> bool:
        """Show the newest moment; always goes on."""
        if self.live:
            text = frames.text(history, shutil.get_terminal_size().columns)
            print(f"\x1b[H\x1b[J{legible(text)}", flush=True)
            time.sleep(1 / self.fps)
        else:
            print(legible(frames.line(history[-1])), flush=True)
        return True

    def close(self) -> str:
        """Nothing to let go of."""
        return ""


class Film:
    """An .mp4 file (by PyAV, the extra `video`) or a .gif, whole when `close` returns.

    Arguments:
        path: ends in .mp4 or .gif.
        fps: frames a second.

    Raises:
        ScreenError: another ending, or .mp4 without PyAV.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix not in (".mp4", ".gif"):
            raise ScreenError(f"got out={path}, wanted a file that ends in .mp4 or .gif")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.part = path, path.with_name(f".{path.stem}.part{path.suffix}")
        self.fps, self.pictures = fps, list[Image.Image]()
        self.container = None
        if path.suffix == ".mp4":
            try:
                import av
            except ImportError as error:
                raise ScreenError(
                    'got a film in .mp4 without PyAV, wanted it: pip install "bayesrl[video]", or out=FILE.gif, which '
                    "needs nothing"
                ) from error
            self.container, self.frame = av.open(str(self.part), "w"), av.VideoFrame
            self.stream = self.container.add_stream("libx264", Fraction(fps).limit_denominator(1000))
            self.stream.width, self.stream.height, self.stream.pix_fmt = *SIZE, "yuv420p"

    def show(self, frames: Frames, history: Sequence[Moment]) -> bool:
        """Add the newest moment; an episode's last one stays for a second."""
        picture = frames.frame(history)
        for _ in range(max(1, round(self.fps)) if history[-1].ended else 1):
            if self.container is None:
                self.pictures.append(picture.quantize(64))
            else:
                self.container.mux(self.stream.encode(self.frame.from_image(picture)))
        return True

    def close(self) -> str:
        """Put the file in its place; says where it is."""
        if self.container is None:
            first, *rest = self.pictures
            first.save(self.part, "GIF", save_all=True, append_images=rest, duration=round(1000 / self.fps), loop=0)
        else:
            self.container.mux(self.stream.encode())
            self.container.close()
        os.replace(self.part, self.path)
        return f"written: {self.path}"


def has_display() -> bool:
    """Whether a window can be opened: always asked on Linux, taken for granted elsewhere."""
    if not sys.platform.startswith("linux") or os.environ.get("SDL_VIDEODRIVER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def legible(text: str) -> str:
    """Without the characters that the output has not."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(str.maketrans("░▒█▁▂▃▄▅▆▇", "-=#_..::||"))
    return text
