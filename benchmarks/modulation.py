"""What modulation costs: a perceptron without it, with it, and with a norm besides, forward and backward.

    python -m benchmarks.modulation [--samples 65536] [--seconds 8]

All are the fused CPU kernels, timed round after round in one process; the look-up in the grids is part of the modulated ones.
"plain" has biases and neither norm nor modulation.
"""

from __future__ import annotations

import argparse

from .harness import interleaved, print_table, write_result

SHAPES = {
    "3 x 64, 2-D": (32, 64, 3, (32, 32)),
    "8 x 64, time": (64, 64, 8, (16,)),
    "3 x 256, 2-D": (512, 256, 3, (32, 32)),
}


def measure(
    inputs: int, hidden: int, layers: int, grid: tuple[int, ...], samples: int, seconds: float
) -> dict:
    import torch

    from fieldstone.fields.modulation import CamMlp, CoordinateModulation

    generator = torch.Generator().manual_seed(0)
    x, at = (
        torch.randn(samples, inputs, generator=generator),
        torch.rand(samples, len(grid), generator=generator),
    )
    x = x.t().contiguous().t()  # feature-major, as our encodings give it

    def case(modulated: bool, norm: str):
        net = CamMlp(
            inputs, hidden, layers, 3, norm=norm, generator=generator,
            modulation=CoordinateModulation(layers, grid) if modulated else None,
        )  # fmt: skip

        def step():
            net(x, at if modulated else None).sum().backward()

        return step

    timings = interleaved(
        {
            "plain": case(False, "none"),
            "CAM": case(True, "none"),
            "plain + norm": case(False, "layer"),
            "CAM + norm": case(True, "layer"),
        },
        seconds=seconds,
    )
    base = timings["plain"].median
    return {
        name: {**timing.to_json(), "over_plain": round(timing.median / base - 1, 4)}
        for name, timing in timings.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1 << 16)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each shape")
    arguments = parser.parse_args()
    results = {
        name: measure(
            *shape, arguments.samples if shape[1] < 256 else arguments.samples // 4, arguments.seconds
        )
        for name, shape in SHAPES.items()
    }
    for name, result in results.items():
        print_table(
            f"{name}, forward and backward",
            ["perceptron", "ms", "over plain"],
            [[case, timing["median_ms"], f"{timing['over_plain']:+.0%}"] for case, timing in result.items()],
        )
    write_result("modulation", results)


if __name__ == "__main__":
    main()
