"""Coordinate-aware modulation at matched sizes: small pictures, held-out pixels, and a moving blob.

    python -m benchmarks.cam_image [--seeds 3] [--steps 1000] [--part time --part all:astronaut ...]

The image experiment of Lee et al. 2024 (section 4.1) scaled to two cores: 64 x 64 pixels, 32 random Fourier features of sigma 2.5,
3 x 32 ReLU (4,291 parameters, as the paper's 1.05 a pixel), modulation grids of 8 x 8 (384 more), full-batch Adam, rates 1e-3 and
1e-2 for grids, a tenth at 1/2 and 3/4. Beside it: a wider network with more parameters than the modulated one, a bilinear grid of
colours and a grid in front of a perceptron of equal size. PSNR in dB, of all pixels or of held-out ones alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time

from .harness import RESULTS, print_table, write_result

MODELS = ("fourier", "fourier wide", "fourier + norm", "cam", "cam + norm", "grid", "grid + mlp")
PARTS = (
    "time",
    "time:fast",
    "all:astronaut",
    "all:text",
    "all:coffee",
    "held-out:astronaut",
    "held-out:text",
)
"""A blob, a smaller one that moves twice as fast; pictures learned from all pixels and measured on them, or from a quarter and measured on the rest."""
MOTION = ("plain", "plain + norm", "cam 5", "cam 16", "cam 16 + norm")


def pictures(size: int) -> dict[str, object]:
    """(size, size, 3) float32 sRGB: two photographs that come with scikit-image, and coloured text on white."""
    import cv2
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont
    from skimage import data

    def shrunk(image):
        side = min(image.shape[:2])
        square = image[:side, (image.shape[1] - side) // 2 :][:, :side]
        return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255

    sheet = Image.new("RGB", (4 * size, 4 * size), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size * 4 // 5)
    for row, (word, colour) in enumerate((("Abg", "#c03020"), ("Rk7", "#2050b0"), ("&Qw", "#208040"))):
        pen.text((size // 5, row * size * 5 // 4), word, font=font, fill=colour)
    return {
        "astronaut": shrunk(data.astronaut()),
        "coffee": shrunk(data.coffee()),
        "text": shrunk(np.asarray(sheet)),
    }


def image_model(name: str, seed: int):
    """(model from places (n, 2) to colours, parameters that learn at a rate of their own, that rate)."""
    import torch
    from torch import nn

    from fieldstone.fields.encodings.random_fourier import RandomFourier
    from fieldstone.fields.modulation import CamMlp, CoordinateModulation

    generator = torch.Generator().manual_seed(seed)
    if name == "grid":
        grid = CoordinateModulation(1, (39, 39), channels=2)  # 4 values a node: 3 are colours
        grid.grids[0] = nn.Parameter(torch.full((39 * 39, 3), 0.5))
        return grid, list(grid.parameters()), 1e-1
    if name == "grid + mlp":
        grid = CoordinateModulation(4, (20, 20))  # 8 values a node
        nn.init.uniform_(grid.grids[0], -0.1, 0.1, generator=generator)
        mlp = CamMlp(8, 32, 2, 3, generator=generator)
        return _Sequence(grid, mlp), list(grid.parameters()), 1e-2
    units = 34 if name == "fourier wide" else 32
    modulation = CoordinateModulation(3, (8, 8)) if name.startswith("cam") else None
    norm = "layer" if name.endswith("norm") else "none"
    mlp = CamMlp(2 * units, units, 3, 3, norm=norm, modulation=modulation, generator=generator)
    model = _Sequence(
        RandomFourier(2, units, 2.5, generator=generator), mlp, coordinates=modulation is not None
    )
    return model, mlp.grid_parameters() if modulation else [], 1e-2


class _Sequence:
    """An encoding and a perceptron; colours by a sigmoid."""

    def __init__(self, encoding, mlp, coordinates: bool = False) -> None:
        self.encoding, self.mlp, self.coordinates = encoding, mlp, coordinates

    def __call__(self, places):
        import torch

        return torch.sigmoid(self.mlp(self.encoding(places), places if self.coordinates else None))

    def parameters(self):
        yield from self.encoding.parameters()
        yield from self.mlp.parameters()


def train(model, special, rate: float, steps: int, batch) -> float:
    """Seconds. Adam, a tenth of the rate at 1/2 and 3/4 of the steps; batch(step) -> places, colours."""
    import torch

    known = {id(p) for p in special}
    groups = [{"params": [p for p in model.parameters() if id(p) not in known], "lr": 1e-3}]
    groups = [group for group in [*groups, {"params": special, "lr": rate}] if group["params"]]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps // 2, steps * 3 // 4], 0.1)
    began = time.perf_counter()
    for step in range(steps):
        places, colours = batch(step)
        loss = 0.5 * (model(places) - colours).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return time.perf_counter() - began


def psnr(model, places, colours) -> float:
    import torch

    with torch.no_grad():
        return -10 * math.log10(float((model(places).clamp(0, 1) - colours).square().mean()))


def picture_experiment(image, seeds: int, steps: int, held_out: bool) -> dict:
    import torch

    size = image.shape[0]
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    places, colours = torch.stack([x, y], -1).reshape(-1, 2), torch.from_numpy(image).reshape(-1, 3)
    seen = torch.ones(size, size, dtype=torch.bool)
    if held_out:
        seen[1::2], seen[:, 1::2] = False, False
    seen = seen.flatten()
    measured = ~seen if held_out else seen
    results = {}
    for name in MODELS:
        values, seconds = [], []
        for seed in range(seeds):
            model, special, rate = image_model(name, seed)
            batch = (places[seen], colours[seen])
            seconds.append(train(model, special, rate, steps, lambda step, batch=batch: batch))
            values.append(psnr(model, places[measured], colours[measured]))
        results[name] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "psnr": [round(value, 3) for value in values],
            "mean": round(sum(values) / seeds, 3),
            "seconds": round(sum(seconds) / seeds, 2),
        }
    return results


def moving_blob(size: int = 24, frames: int = 16, radius: float = 0.08, turns: float = 1.0):
    """places (frames * size^2, 3) of x, y, t in [0, 1] and colours: a bright blob that goes round over a still ramp."""
    import torch

    axis = (torch.arange(size) + 0.5) / size
    t, y, x = torch.meshgrid(torch.arange(frames) / (frames - 1), axis, axis, indexing="ij")
    cx, cy = 0.5 + 0.3 * torch.sin(3 * math.pi * turns * t), 0.5 + 0.3 * torch.cos(2 * math.pi * turns * t)
    blob = torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * radius**2))
    ramp = 0.15 + 0.2 * x
    colours = torch.stack([ramp + (1 - ramp) * blob, ramp + (0.7 - ramp) * blob, 0.3 * y + 0.4 * blob], -1)
    return torch.stack([x, y, t], -1).reshape(-1, 3), colours.reshape(-1, 3)


def motion_experiment(seeds: int, steps: int, **blob: float) -> dict:
    import torch

    from fieldstone.fields.encodings.frequency import frequency_encoding
    from fieldstone.fields.modulation import CamMlp, CoordinateModulation

    places, colours = moving_blob(**blob)
    encoded = torch.cat([frequency_encoding(places[:, :2], 5), frequency_encoding(places[:, 2:], 2)], 1)
    results = {}
    for name in MOTION:
        values = []
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(seed)
            nodes = 16 if "16" in name else 5
            modulation = CoordinateModulation(5, (nodes,)) if name.startswith("cam") else None
            norm = "layer" if name.endswith("norm") else "none"
            mlp = CamMlp(24, 48, 5, 3, norm=norm, modulation=modulation, generator=generator)

            class Model:
                def __init__(self, mlp):
                    self.mlp, self.parameters = mlp, mlp.parameters

                def __call__(self, index):
                    return torch.sigmoid(self.mlp(encoded[index], places[index, 2:]))

            model = Model(mlp)
            draw = torch.Generator().manual_seed(100 + seed)

            def batch(step, draw=draw):
                index = torch.randint(len(places), (2048,), generator=draw)
                return index, colours[index]

            train(model, mlp.grid_parameters() if modulation else [], 1e-2, steps, batch)
            values.append(psnr(model, slice(None), colours))
        results[name] = {
            "parameters": sum(p.numel() for p in mlp.parameters()),
            "psnr": [round(value, 3) for value in values],
            "mean": round(sum(values) / seeds, 3),
        }
    return results


def _show(title: str, results: dict) -> None:
    rows = [
        [
            name,
            result["parameters"],
            " ".join(f"{value:.2f}" for value in result["psnr"]),
            f"{result['mean']:.2f}",
        ]
        for name, result in results.items()
    ]
    print_table(title, ["model", "parameters", "PSNR of seeds", "mean"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="only this; others keep their last result"
    )
    arguments = parser.parse_args()
    path = RESULTS / "cam_image.json"
    results = json.loads(path.read_text())["results"] if arguments.part and path.is_file() else {}
    for part in arguments.part or PARTS:
        if part.startswith("time"):
            harder = {"radius": 0.05, "turns": 2.0} if part == "time:fast" else {}
            results[part] = motion_experiment(arguments.seeds, arguments.steps * 7 // 10, **harder)
        else:
            kind, name = part.split(":")
            image = pictures(64 if kind == "all" else 128)[name]
            results[part] = picture_experiment(image, arguments.seeds, arguments.steps, kind == "held-out")
        _show(part, results[part])
        write_result("cam_image", results)


if __name__ == "__main__":
    main()
