"""The Triton update of GridAdam against its reference, in Triton's interpreter where there is no GPU; and that it compiles."""

import os
import subprocess
import sys

import pytest
import torch

from fieldstone.fields.optim import adam_reference
from fieldstone.fields.optim.adam import ADAM, AdamState, GridAdam, bias_corrections

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from fieldstone.fields.optim import adam_cuda

kernel = adam_cuda._update_kernel
types = {"count_ptr": "*i16", "n": "i32", "last": "i32"}
types |= dict.fromkeys(("lr", "beta1", "rest1", "beta2", "rest2", "eps", "decay"), "fp32")
for sparse in (True, False):
    constants = {"SPARSE": sparse, "BLOCK": 256, "WIDTH": 4}
    signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in kernel.arg_names}
    whole = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name == "n" or "_ptr" in name}
    source = ASTSource(kernel, signature, constexprs=constants, attrs=whole)  # what Triton finds out of aligned tables
    text = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8}).asm["ptx"]
    print(*(word for word in ("ld.global.v4", "st.global.v4", "sqrt.rn.f32", "div.rn.f32", "approx") if word in text))
"""


def test_kernel_compiles_without_a_gpu(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    script = tmp_path / "compile_kernels.py"  # Triton reads the source of kernels, ours lie in their own file
    script.write_text(COMPILE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    exact = ["ld.global.v4", "st.global.v4", "sqrt.rn.f32", "div.rn.f32"]  # no approximate roots or quotients
    assert [line.split() for line in done.stdout.splitlines()] == [exact, exact]


def test_gpus_take_this_back_end():
    assert ADAM.resolve("auto", "cuda") == "cuda"


def _state(n, generator):
    """Moments and counts as after some steps, with counts near both of their ends."""
    count = torch.randint(0, 40, (n,), generator=generator, dtype=torch.int16)
    count[::7], count[3::7] = 0, 32767
    first = torch.randn(n, generator=generator) * 1e-6
    return AdamState(*(part.to(DEVICE) for part in (first, first.square() * 2, count)))


@pytest.mark.parametrize("sparse", [True, False])
def test_update_equals_reference(sparse):
    from fieldstone.fields.optim import adam_cuda

    n = 2500  # more than two programs, the last not full
    options = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-15, "weight_decay": 1e-3, "sparse": sparse}
    corrections = bias_corrections((0.9, 0.99)).to(DEVICE)
    results = []
    for module in (adam_cuda, adam_reference):
        generator = torch.Generator().manual_seed(0)
        parameter = torch.randn(n, generator=generator).to(DEVICE)
        before, state = parameter.clone(), _state(n, generator)
        for _ in range(3):
            gradient = torch.randn(n, generator=generator) * 1e-6
            gradient = (gradient * (torch.rand(n, generator=generator) < 0.3)).to(DEVICE)
            module.update(parameter, gradient, state, corrections=corrections, **options)
            assert not gradient.any()
        results.append((parameter, state.first, state.second, state.count))
        still = float((parameter == before).float().mean())
        assert 0.3 < still < 0.4 if sparse else still < 0.01
    sizes = (1, 1e-6, 1e-12, 1)
    for ours, theirs, size in zip(*results, sizes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=1e-6 * size)
    assert torch.equal(results[0][3], results[1][3]) and int(results[0][3].max()) == 32767


def test_untouched_entries_keep_every_bit():
    from fieldstone.fields.optim import adam_cuda

    generator = torch.Generator().manual_seed(1)
    parameter, state = torch.randn(100, generator=generator).to(DEVICE), _state(100, generator)
    gradient = torch.zeros(100, device=DEVICE)
    gradient[41] = 1.0
    tensors = (parameter, state.first, state.second, state.count)
    before = [tensor.clone() for tensor in tensors]
    adam_cuda.update(
        parameter, gradient, state, lr=0.1, betas=(0.9, 0.99), eps=1e-15, weight_decay=0.1, sparse=True,
        corrections=bias_corrections((0.9, 0.99)).to(DEVICE),
    )  # fmt: skip
    for tensor, old in zip(tensors, before, strict=True):
        assert torch.nonzero(tensor != old)[:, 0].tolist() == [41]


def test_strided_tensors_are_refused():
    from fieldstone.fields.optim import adam_cuda

    parameter = torch.zeros(4, 6, device=DEVICE).t()
    with pytest.raises(ValueError, match="contiguous"):
        adam_cuda.update(
            parameter, parameter, None, lr=0.1, betas=(0.9, 0.99), eps=1e-15, weight_decay=0.0, sparse=True,
            corrections=bias_corrections((0.9, 0.99)).to(DEVICE),
        )  # fmt: skip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="moves a run between a GPU and the CPU")
def test_a_run_moves_between_cpu_and_gpu():
    values = torch.randn(3000, generator=torch.Generator().manual_seed(0))

    def steps(optimiser, parameter, numbers):
        for number in numbers:
            gradient = torch.randn(3000, generator=torch.Generator().manual_seed(number))
            parameter.grad = (gradient * (gradient > 0)).to(parameter.device)
            optimiser.step()

    def start(device, tensor):
        parameter = torch.nn.Parameter(tensor.detach().to(device, copy=True))
        return parameter, GridAdam([{"params": [parameter], "lr": 1e-2, "sparse": True}])

    straight, optimiser = start("cpu", values)
    steps(optimiser, straight, range(6))
    parameter, optimiser = start("cpu", values)
    for number, device in enumerate(("cuda", "cpu", "cuda")):
        parameter, other = start(device, parameter)
        other.load_state({name: tensor.cpu() for name, tensor in optimiser.state().items()})
        optimiser = other
        steps(optimiser, parameter, range(2 * number, 2 * number + 2))
    assert parameter.is_cuda and all(tensor.is_cuda for tensor in optimiser.state().values())
    torch.testing.assert_close(parameter.detach().cpu(), straight.detach(), rtol=1e-5, atol=1e-6)
