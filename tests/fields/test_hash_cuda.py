"""The Triton kernels, in Triton's interpreter where there is no GPU, for every dimension and width; and that they compile.

More of what they compute is tested in test_hash_grid.py, with the other back ends.
"""

import os
import subprocess
import sys

import pytest
import torch

from fieldstone.fields import GridLevels
from fieldstone.fields.encodings import hash_reference

pytest.importorskip("triton")

COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from fieldstone.fields.encodings import hash_cuda

types = {"n": "i32", "factor_ptr": "*i32", "entries_ptr": "*i32", "offset_ptr": "*i64", "hashed_ptr": "*i32"}
constants = {"DIMS": 3, "FEATURES": 2, "SMOOTH": True, "LANES": 128}
for kernel in (hash_cuda._value_kernel, hash_cuda._table_gradient_kernel, hash_cuda._input_gradient_kernel):
    signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=constants)
    text = compile(source, target=GPUTarget("cuda", 80, 32)).asm["ptx"]
    print(*{word for word in ("relaxed.add", "ld.global", "st.global", "fma.rn.f32", "rem.u32") if word in text})
"""


def test_kernels_compile_without_a_gpu(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    script = tmp_path / "compile_kernels.py"  # Triton reads the source of kernels, ours lie in their own file
    script.write_text(COMPILE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    value, table_gradient, input_gradient = (set(line.split()) for line in done.stdout.splitlines())
    assert {"ld.global", "st.global", "fma.rn.f32"} <= value & input_gradient
    assert "relaxed.add" in table_gradient and "st.global" not in table_gradient  # it only adds, atomically


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("features", [1, 2, 4, 8])
@pytest.mark.parametrize("dims", [2, 3, 4])
def test_value_and_both_gradients_for_every_dimension_and_width(dims, features, interpolation):
    from fieldstone.fields.encodings import hash_cuda

    generator = torch.Generator().manual_seed(dims * 10 + features)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    levels = GridLevels(dims, 2, features, 5, 2, 5.0)
    assert levels.hashed.tolist() == [False, True]
    x = torch.rand(6, dims, generator=generator)
    table = torch.rand(levels.parameters, generator=generator) - 0.5
    dy = torch.randn(6, 2 * features, generator=generator)
    results = []
    for encode in (hash_cuda.encode, hash_reference.encode):
        inputs, weights = x.to(device).requires_grad_(), table.to(device).requires_grad_()
        y = encode(inputs, weights, levels, interpolation)
        y.backward(dy.to(device))
        results.append((y.detach(), weights.grad, inputs.grad))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
