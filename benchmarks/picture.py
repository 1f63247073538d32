"""The README's picture: a held-out view of a run as truth, rendering and z_depth.

python -m benchmarks.picture RUN [--view 3] [--out docs/images/bundled.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--view", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/images/bundled.png"))
    arguments = parser.parse_args()

    import imageio.v3 as imageio
    import numpy as np

    import fieldstone as fs
    from fieldstone.core.files import atomic_path
    from fieldstone.tools.evaluation import truth

    run = fs.load_run(arguments.run)
    capture = run.capture()
    index = int(capture.splits["test"][arguments.view])
    colour, _, background = truth(capture, index)
    view = run.scene().render_view(capture.cameras, index, background=background)
    z, seen = view["z_depth_median"].numpy(), view["opacity"].numpy()
    hit = seen > 0.5
    near, far = np.percentile(z[hit], [1, 99])
    grey = np.where(hit, 1 - 0.8 * np.clip((z - near) / (far - near), 0, 1), 1)
    parts = [colour, view["colour"].numpy(), np.repeat(grey[..., None], 3, 2)]
    sheet = (np.concatenate(parts, axis=1).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    with atomic_path(arguments.out) as temporary:
        imageio.imwrite(temporary, sheet)


if __name__ == "__main__":
    main()
