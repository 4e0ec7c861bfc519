"""Draw the made-up procedure of the video demo, seen from above: two hands build a toy car from parts, with tools."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from tools.demo_pen import SCALE, Color, Pen, Point, between, eased

WIDTH, HEIGHT = 320, 240
RIGHT_REST, LEFT_REST, LEFT_HOLD = (248, 214), (72, 214), (92, 164)
CAR, CAR_SIZE = (160, 140), (124, 46)
STEEL, RED, YELLOW, TIRE, TRAY = (188, 192, 198), (214, 62, 52), (232, 186, 60), (44, 44, 50), (120, 112, 104)
TABLE = (168, 162, 150)  # on average
# Ends of the phases of a step, as fractions of its time: a part is reached for, carried, and pressed; a tool is reached
# for and used. Then the hand goes back, so that each step begins with the hands at rest.
REACHED, CARRIED, PRESSED = 0.25, 0.6, 0.88
TAKEN, USED = 0.12, 0.88
TURNS = 5  # of the screwdriver for each bolt
STROKES = 7  # of the brush across the car


class Part(NamedTuple):
    """A part of the car: where it is before its step and after it; ``hub`` is the color of a wheel's middle."""

    step: str
    tray: Point
    place: Point
    size: Point
    color: Color
    hub: Color | None = None


class Tool(NamedTuple):
    """A tool, and where it is when it is not used."""

    step: str
    rack: Point
    color: Color


PARTS = (
    Part('place_chassis', (84, 40), CAR, CAR_SIZE, (196, 158, 104)),
    Part('fit_front_wheels', (172, 28), (202, 112), (30, 13), TIRE, STEEL),
    Part('fit_front_wheels', (172, 52), (202, 168), (30, 13), TIRE, STEEL),
    Part('fit_rear_wheels', (216, 28), (118, 112), (38, 19), TIRE, YELLOW),
    Part('fit_rear_wheels', (216, 52), (118, 168), (38, 19), TIRE, YELLOW),
    Part('mount_cabin', (276, 40), (150, 140), (50, 34), (92, 148, 196)),
)
TOOLS = (Tool('tighten_bolts', (292, 104), YELLOW), Tool('paint_car', (292, 150), (120, 80, 160)))
BOLTS = ((-50, 0), (50, 0))  # from the middle of the car
STEPS = tuple(dict.fromkeys([part.step for part in PARTS] + [tool.step for tool in TOOLS]))


@dataclass(frozen=True)
class Style:
    """How a person and the table look, and how the person moves.

    Attributes:
        skin: color of the hands.
        sleeve: color of the sleeves.
        table: color of the table.
        paint: color that the car is painted in.
        hand: size of the hands, 1 on average.
        sway: how far the hands tremble, in pixels.
        bend: how far the hands' paths are bent to the side, as a fraction of their length.
        shift: offset of the camera in pixels.
        light: brightness, 1 on average.
    """

    skin: Color
    sleeve: Color
    table: Color
    paint: Color
    hand: float
    sway: float
    bend: float
    shift: Point
    light: float


def draw_style(rng: np.random.Generator) -> Style:
    """Draw the style of a person at random."""
    tone = rng.uniform(0.35, 1)
    table = np.array(TABLE) + rng.normal(size=3) * 4
    return Style(skin=(round(240 * tone), round(190 * tone), round(150 * tone)), sleeve=_color(rng.uniform(30, 220, 3)),
                 table=_color(table), paint=_color(rng.uniform(20, 230, 3)), hand=rng.uniform(0.85, 1.2),
                 sway=rng.uniform(0.3, 1.6), bend=rng.uniform(-0.3, 0.3),
                 shift=(rng.uniform(-8, 8), rng.uniform(-5, 5)), light=rng.uniform(0.85, 1.12))


def _color(values: Sequence[float]) -> Color:
    return tuple(int(value) for value in np.clip(values, 0, 255))


class Scene:
    """Draws the pictures of a person's recordings.

    Args:
        style: look and movement of the person.
    """

    def __init__(self, style: Style) -> None:
        self.style = style

    def draw(self, done: Collection[str], step: str | None, phase: float, time: float) -> np.ndarray:
        """Return the picture of a moment, (HEIGHT, WIDTH, 3), uint8.

        Args:
            done: steps that are complete.
            step: the current step; None if the hands rest.
            phase: progress within the step, 0 to 1.
            time: seconds, for the tremble of the hands.
        """
        image = Image.new('RGB', (SCALE * WIDTH, SCALE * HEIGHT), self.style.table)
        pen = Pen(ImageDraw.Draw(image), self.style.shift)
        pen.box((168, 40), (300, 62), TRAY)
        pen.box((292, 128), (34, 92), TRAY)
        tremble = self.style.sway * math.sin(5 * time), self.style.sway * math.cos(4 * time)
        hand = RIGHT_REST
        for part, progress in self._progress_of_parts(done, step, phase):
            place, grip = self._move_part(part, progress)
            hand = grip or hand
            self._draw_part(pen, part, place, _painted(done, step, phase))
            if part.step == 'place_chassis':
                self._draw_bolts(pen, place, done, step, phase)
        for tool in TOOLS:
            place, angle = self._move_tool(tool, phase if step == tool.step else None)
            if step == tool.step:
                hand = self._hand_of_tool(tool, phase, place)
            _draw_tool(pen, tool, place, angle)
        holds = eased(phase, 0, 0.15) - eased(phase, 0.85, 1) if step and 'place_chassis' in done else 0.0
        left = between(LEFT_REST, LEFT_HOLD, holds)
        self._draw_hand(pen, (left[0] - tremble[0], left[1] + tremble[1]), side=-1)
        self._draw_hand(pen, (hand[0] + tremble[0], hand[1] + tremble[1]), side=1)
        pixels = np.asarray(image.reduce(SCALE), np.float32) * self.style.light
        return np.clip(pixels, 0, 255).astype(np.uint8)

    @staticmethod
    def _progress_of_parts(done: Collection[str], step: str | None, phase: float) -> list[tuple[Part, float]]:
        """Return the progress of each part's own move, 0 to 1; a step moves its parts one after the other."""
        moves = []
        for part in PARTS:
            of_step = [other for other in PARTS if other.step == part.step]
            own = len(of_step) * phase - of_step.index(part)
            progress = 1.0 if part.step in done else min(1.0, max(0.0, own)) if part.step == step else 0.0
            moves.append((part, progress))
        return moves

    def _move_part(self, part: Part, progress: float) -> tuple[Point, Point | None]:
        """Return where a part is, and where the hand is that moves it; None if none does."""
        place = between(part.tray, part.place, eased(progress, REACHED, CARRIED), self.style.bend)
        if not 0 < progress < 1:
            return place, None
        if CARRIED < progress < PRESSED:  # wiggles while it is pressed into its place
            place = place[0] + 2 * math.sin(40 * progress), place[1]
        grip = place[0] + 6, place[1] + 10
        if progress < REACHED:
            grip = between(RIGHT_REST, grip, eased(progress, 0, REACHED), self.style.bend)
        elif progress > PRESSED:
            grip = between(grip, RIGHT_REST, eased(progress, PRESSED, 1), self.style.bend)
        return place, grip

    @staticmethod
    def _move_tool(tool: Tool, phase: float | None) -> tuple[Point, float]:
        """Return where the tip of a tool is, and its angle; ``phase`` is None if it is not used."""
        if phase is None:
            return tool.rack, 0.0
        work = min(1.0, max(0.0, (phase - TAKEN) / (USED - TAKEN)))
        if tool.step == 'tighten_bolts':
            bolt, angle = BOLTS[int(work >= 0.5)], 2 * math.pi * TURNS * 2 * work
            target = CAR[0] + bolt[0], CAR[1] + bolt[1]
        else:
            target = (CAR[0] + CAR_SIZE[0] * (work - 0.5), CAR[1] + 20 * math.sin(2 * math.pi * STROKES * work))
            angle = 0.4 * math.sin(2 * math.pi * STROKES * work)
        if phase < TAKEN:
            return between(tool.rack, target, eased(phase, TAKEN / 2, TAKEN)), angle
        return between(target, tool.rack, eased(phase, USED, (1 + USED) / 2)), angle

    @staticmethod
    def _hand_of_tool(tool: Tool, phase: float, place: Point) -> Point:
        """Return where the hand is that uses a tool."""
        grip = place[0] + 14, place[1] + 16
        if phase < TAKEN / 2:
            return between(RIGHT_REST, grip, eased(phase, 0, TAKEN / 2))
        return between(grip, RIGHT_REST, eased(phase, (1 + USED) / 2, 1))

    def _draw_part(self, pen: Pen, part: Part, place: Point, painted: float) -> None:
        pen.box(place, part.size, part.color, radius=3 if part.hub else 7)
        if part.hub:
            pen.box(place, (part.size[0] * 0.5, part.size[1] * 0.4), part.hub, radius=2)
        if part.step == 'place_chassis' and painted:
            length = painted * part.size[0]
            pen.box((place[0] - part.size[0] / 2 + length / 2, place[1]), (length, part.size[1]), self.style.paint,
                    radius=7)

    @staticmethod
    def _draw_bolts(pen: Pen, car: Point, done: Collection[str], step: str | None, phase: float) -> None:
        """Draw the bolts of a car: loose ones are large and red, tight ones small and of steel."""
        for number, bolt in enumerate(BOLTS):
            middle = (TAKEN + USED) / 2
            start, end = ((TAKEN, middle), (middle, USED))[number]
            tight = 1.0 if 'tighten_bolts' in done else eased(phase, start, end) if step == 'tighten_bolts' else 0.0
            color = tuple(round(loose + tight * (steel - loose)) for loose, steel in zip(RED, STEEL, strict=True))
            pen.circle((car[0] + bolt[0], car[1] + bolt[1]), 7 - 3 * tight, color)

    def _draw_hand(self, pen: Pen, place: Point, side: int) -> None:
        """Draw a hand whose fingers point up; ``side`` is 1 for the right hand and -1 for the left hand."""
        size = self.style.hand
        elbow = place[0] + side * 46, HEIGHT + 40
        wrist = between(place, elbow, 0.25)
        pen.line(wrist, elbow, 24 * size, self.style.sleeve)
        pen.line(place, wrist, 14 * size, self.style.skin)
        pen.circle(place, 12 * size, self.style.skin)
        for finger in (-2, -1, 0, 1):
            tip = place[0] + size * (5 * finger + 2) * -side, place[1] - size * (19 - abs(2 * finger + 1))
            pen.line((place[0] + size * 4 * finger * -side, place[1]), tip, 5 * size, self.style.skin)
        pen.line(place, (place[0] - side * 15 * size, place[1] - 5 * size), 6 * size, self.style.skin)


def _painted(done: Collection[str], step: str | None, phase: float) -> float:
    """Return the fraction of the car that is painted."""
    if 'paint_car' in done:
        return 1.0
    return min(1.0, max(0.0, (phase - TAKEN) / (USED - TAKEN))) if step == 'paint_car' else 0.0


def _draw_tool(pen: Pen, tool: Tool, tip: Point, angle: float) -> None:
    """Draw a tool with its tip at a place: a blade or a brush, and a handle away from it."""
    toward = math.cos(angle + 0.8), math.sin(angle + 0.8)
    neck = tip[0] + 12 * toward[0], tip[1] + 12 * toward[1]
    end = tip[0] + 30 * toward[0], tip[1] + 30 * toward[1]
    pen.line(tip, neck, 3 if tool.step == 'tighten_bolts' else 9, STEEL)
    pen.line(neck, end, 8, tool.color)
