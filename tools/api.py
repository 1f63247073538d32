"""The Python API: what the commands do, as functions. `import fieldstone as fs` offers each of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_json

from .training.run import Run
from .training.start import resume_run, start_run

__all__ = [
    "Run",
    "edit_scene",
    "evaluate",
    "export_mesh",
    "load_run",
    "render_image",
    "render_video",
    "render_views",
    "select_primitives",
    "train_image",
    "train_scene",
    "train_video",
]


def train_scene(
    data: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    method: str = "hash-grid",
    downscale: float = 1,
    holdout: int | None = None,
    seed: int = 0,
    backend: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    settings: dict | None = None,
    block_size: float | None = None,
    blocks: str | os.PathLike | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Trains a scene and returns its run folder.

    data: a capture (`open_capture` says what is recognised); None: the scene that comes with Fieldstone. out:
    the run folder, by default `runs/<name of the data>`. minutes, steps: the budget, see `Budget`; without
    either, 5 minutes, or 1 for the bundled scene. downscale: shrink the images by this factor. holdout: keep
    every n-th frame for testing, where the data does not say which. settings: the method's own, over its
    defaults. block_size, blocks: for method dnmp, train in blocks of at most this many source units, or in those of a JSON
    file (docs/dnmp.md); the budget counts for each. resume: go on with the run in `out` with what it was started with; only the budget, the device
    and the place of the data may be given anew.

    Ctrl-C saves, then raises KeyboardInterrupt; the same call with `resume=True` goes on. Raises `UserError`.
    """
    if resume:
        if out is None:
            raise UserError("resume: say which run with out")
        run, outcome = resume_run(
            Path(out), data=data, minutes=minutes, steps=steps, device=device, quiet=quiet
        )
        if outcome is None:
            return run
    else:
        run, outcome = start_run(
            data,
            out,
            minutes=minutes,
            steps=steps,
            method=method,
            downscale=downscale,
            holdout=holdout,
            seed=seed,
            settings={"backend": backend, "precision": precision, **(settings or {})},
            device=device,
            quiet=quiet,
            block_size=block_size,
            blocks=blocks,
        )
    if outcome.interrupted is not None:
        raise KeyboardInterrupt(
            f"{signal.Signals(outcome.interrupted).name} at step {outcome.step}; {run.folder} is saved"
        )
    return run


def train_image(
    image: str | os.PathLike,
    out: str | os.PathLike,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    method: str = "cam",
    parameters: int | None = None,
    protocol: str = "regression",
    bits: int = 0,
    background: str | None = None,
    seed: int = 0,
    device: str = "auto",
    settings: dict | None = None,
    quiet: bool = False,
) -> Run:
    """Learns an image file as a field and returns its run folder.

    minutes, steps: the budget; without either, 2 minutes. method: "cam", "fourier" or "hash-grid". parameters: most of the
    model; by default a quarter of the pixels, 4,000 to 70,000. protocol: "regression", or "generalisation", which trains on
    every second pixel of each axis. bits: train the last part through this quantisation. background: "white" or "black",
    what an alpha channel lies on. Ctrl-C saves, then raises KeyboardInterrupt. Raises `UserError`.
    """
    from .images.start import start_image

    chosen = {"model": method, "protocol": protocol, "bits": bits, **(settings or {})}
    if parameters is not None:
        chosen["parameters"] = parameters
    run, outcome = start_image(
        image, out, minutes=minutes, steps=steps, seed=seed, settings=chosen, background=background,
        device=device, quiet=quiet,
    )  # fmt: skip
    if outcome.interrupted is not None:
        raise KeyboardInterrupt(
            f"{signal.Signals(outcome.interrupted).name} at step {outcome.step}; {run.folder} is saved"
        )
    return run


def train_video(
    video: str | os.PathLike,
    out: str | os.PathLike,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    method: str = "cam",
    parameters: int | None = None,
    loss: str = "mixed",
    bits: int = 0,
    seed: int = 0,
    device: str = "auto",
    settings: dict | None = None,
    quiet: bool = False,
) -> Run:
    """Learns a video as a generator of its frames and returns its run folder.

    video: MP4 and what else ffmpeg decodes, y4m, a folder of frames, or raw I420 with its `size` (width, height). fps: in place
    of the file's. minutes, steps: the budget; without either, 5 minutes. method: "cam" or "plain", the same without modulation.
    parameters: most of the model, about a byte each when packed. loss: "mixed" (L1 and SSIM) or "mse". bits: train the last
    part through this quantisation. Ctrl-C saves, then raises KeyboardInterrupt. Raises `UserError`.
    """
    from .video.start import start_video

    chosen = {"model": method, "loss": loss, "bits": bits, **(settings or {})}
    if parameters is not None:
        chosen["parameters"] = parameters
    run, outcome = start_video(
        video, out, size=size, fps=fps, minutes=minutes, steps=steps, seed=seed, settings=chosen,
        device=device, quiet=quiet,
    )  # fmt: skip
    if outcome.interrupted is not None:
        raise KeyboardInterrupt(
            f"{signal.Signals(outcome.interrupted).name} at step {outcome.step}; {run.folder} is saved"
        )
    return run


def load_run(path: str | os.PathLike) -> Run:
    """Opens a run folder, or a packed file. `.scene()` is the trained scene, `.capture()` its data, `.config` and `.metrics()`
    plain data.
    """
    return _run(path)


def evaluate(
    run: Run | str | os.PathLike,
    *,
    split: str | None = None,
    data: str | os.PathLike | None = None,
    downscale: float | None = None,
    json: str | os.PathLike | None = None,
    images: str | os.PathLike | None = None,
    on_view: Callable[[dict], None] | None = None,
) -> dict:
    """Compares rendered views with photographs: PSNR in dB, SSIM, and LPIPS when it is installed.

    split: "test" (the default), "train", ..., or "all". data: another capture of the same scene in the same
    source frame; without `split` its test frames count if the data set names some, else all that training did
    not see. downscale: of `data`, by default the run's. json: a file for the result. images: a folder for
    rendering, truth and error map of each view. Returns {"psnr": mean, "ssim": mean, "views": [{"name",
    "psnr", "ssim"}, ...], "split", "capture"}; and "bytes" for methods that can be packed: the size of the packed file
    that gives exactly these pictures (of a run folder: with 32 bits).
    """
    from .. import datasets
    from .evaluation import compare_views, split_indices, unseen_indices

    run = _run(run)
    if run.kind == "image":
        from .images.evaluation import evaluate_image

        result = evaluate_image(run, data=data, images=None if images is None else Path(images))
        return _finished(run, result, json)
    if run.kind == "video":
        from .video.evaluation import evaluate_video

        result = evaluate_video(
            run, data=data, images=None if images is None else Path(images), on_view=on_view
        )
        return _finished(run, result, json)
    if data is None:
        capture = run.capture()
    else:
        factor = downscale if downscale is not None else run.config["data"]["downscale"]
        capture = datasets.open(data, downscale=factor)
    if data is not None and split is None:
        split, indices = unseen_indices(capture, run.cameras_only)
    else:
        split, indices = split_indices(capture, split or "test")
    scores = compare_views(
        run.scene(), capture, indices, images=None if images is None else Path(images), on_view=on_view
    )
    return _finished(run, {**scores, "split": split, "capture": capture.name}, json)


def _finished(run: Run, result: dict, json: str | os.PathLike | None) -> dict:
    """The result with "bytes", where the method can be packed, written to `json` if given."""
    from .packing.pack import size_in_bytes

    size = size_in_bytes(run)
    if size is not None:
        result = {**result, "bytes": size}
    if json is not None:
        atomic_write_json(json, result)
    return result


def render_image(
    run: Run | str | os.PathLike,
    out: str | os.PathLike,
    *,
    width: int | None = None,
    height: int | None = None,
    crop: tuple[int, int, int, int] | None = None,
    bits: int = 8,
) -> Path:
    """Writes a learned image (a run, or a packed file) to `out`: .png of 8 or 16 `bits`, .jpg, or .exr in linear light.

    width, height: of the whole image in pixels, one alone keeps the proportions; by default as trained. crop: (x, y, width,
    height) of the part to write, in those pixels. Returns the path of `out`.
    """
    from .images.view import check_image_target, write_picture

    out = Path(out)
    check_image_target(out)
    run = _run(run)
    if run.kind != "image":
        raise UserError(f"{run.folder}: a run of a {run.kind}, not of an image; use render-views")
    scene = run.scene()
    write_picture(out, scene.pixels(width, height, crop), hdr=scene.picture.depth == "hdr", bits=bits)
    return out


def render_video(
    run: Run | str | os.PathLike,
    out: str | os.PathLike,
    *,
    frame: float | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> Path:
    """Decodes a learned video (a run, or a packed file) into `out`: .mp4, .gif, or a folder of PNG frames (no suffix).

    frame: only this one, into a .png or .jpg; from 0, and a fraction is a time between two. on_frame: called with (done, total).
    PNG frames hold exactly what the model gives; the others are compressed once more. Returns the path of `out`.
    """
    from .images.view import write_picture
    from .video.view import check_video_target, write_video

    out = Path(out)
    check_video_target(out, one_frame=frame is not None)
    run = _run(run)
    if run.kind != "video":
        raise UserError(f"{run.folder}: a run of a {run.kind}, not of a video")
    if frame is None:
        return write_video(run.scene(), out, on_frame)
    write_picture(out, run.scene().values(frame), hdr=False)
    return out


def render_views(
    run: Run | str | os.PathLike,
    path: object = "orbit",
    out: str | os.PathLike = "orbit.mp4",
    *,
    frames: int | None = None,
    fps: float | None = None,
    split: str | None = None,
    width: int | None = None,
    height: int | None = None,
    downscale: float = 1,
    output: str = "colour",
    background: str | None = None,
    transform: str | os.PathLike | None = None,
    motion: str | os.PathLike | None = None,
    time: float | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> Path:
    """Renders the scene along a camera path into `out`: .mp4, .gif, or a folder of PNG frames (no suffix).

    path: "orbit", "spiral", "interpolate" (through the training cameras), "dataset" (the frames of `split`),
    a camera path JSON file, what `fs.orbit` and `fs.spiral` return, or `Cameras` in the source frame.
    frames: how many, for the paths called by name. fps: frames a second, by default the file's, or 30.
    width, height: of the output in pixels; one alone keeps the proportions. output: "colour", "z_depth",
    "opacity" or "normals". background: "white" or "black"; by default the capture's. time: the moment of a
    moving scene in [0, 1]; by default frames of the capture show their own, and a made path goes through all.
    transform: nerfstudio's
    dataparser_transforms.json, when a path file from its viewer is to come back to the source frame.
    motion: a result of `hand fit` whose poses a trained hand is shown in, over the frames of the path.
    on_frame: called with (done, total). Returns the path of `out`.
    """
    from .rendering import render_path

    run, out = _run(run), Path(out)
    _is_scene(run)
    render_path(
        run,
        path,
        out,
        frames=frames,
        fps=fps,
        split=split,
        width=width,
        height=height,
        downscale=downscale,
        output=output,
        background=background,
        transform=transform,
        motion=motion,
        time=time,
        on_frame=on_frame,
    )
    return out


def export_mesh(
    run: Run | str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    resolution: int = 256,
    method: str = "tsdf",
    texture: bool = False,
    faces: int | None = None,
    level: float | str = "auto",
    time: float | None = None,
    progress: Callable[[str, float], None] | None = None,
):
    """The scene's surface as a `trimesh.Trimesh` in the source frame and unit, written to `out` if given.

    out: .glb, .ply, .obj or .stl. resolution: cells along the longest side of the scene's core box. method:
    "tsdf" or "marching-cubes". texture: a baked picture instead of vertex colours. faces: reduce to about
    this many. level: density per source unit of the surface. time: the moment of a moving scene, by default 0.
    progress: called with (stage, share done).
    `mesh.metadata["fieldstone"]` reports faces, watertightness and more.
    """
    from .mesh import export_mesh as mesh_of
    from .rendering import at_time

    run = _run(run)
    _is_scene(run)
    capture = run.cameras_only
    training = capture.splits.get("train")
    cameras = capture.cameras if training is None or not len(training) else capture.cameras[training]
    scene = run.scene()
    at_time(scene, 0.0 if time is None and hasattr(scene, "time") else time)
    return mesh_of(
        scene,
        out,
        method=method,
        resolution=resolution,
        cameras=cameras,
        level=level,
        target_faces=faces,
        texture=texture,
        progress=progress,
    )


def edit_scene(run: Run | str | os.PathLike, out: str | os.PathLike, edits: list[dict]) -> Run:
    """Edits a scene of mesh primitives without training, writes the run folder `out` and returns it; `run` is not changed.

    edits: done one after another, as in docs/dnmp.md: {"do": "delete", "select": {"label": "car"}}, {"do": "duplicate", "select":
    {"box": [[8, 1, 0], [13, 4, 2]]}, "translate": [6, 0, 0]}, ... They are kept in edits.json of `out`. Raises `UserError`.
    """
    from .editing.edit_scene import edit_scene as edited

    return edited(_run(run), out, edits)


def select_primitives(run: Run | str | os.PathLike, selection: dict):
    """Numbers (k,) int64 and middles (k, 3) float64, source frame, of the primitives that fit all of `selection`; UserError if none does."""
    from .editing.edit_scene import selected

    return selected(_run(run), selection)


def _run(run: Run | str | os.PathLike) -> Run:
    if isinstance(run, Run):
        return run
    from .packing.container import is_packed

    if is_packed(run):
        from .packing.pack import open_run

        return open_run(run)
    return Run.open(run)


def _is_scene(run: Run) -> None:
    if run.kind != "scene":
        raise UserError(
            f"{run.folder}: a run of kind {run.kind} has no views and no surface; use render-{run.kind}"
        )
