"""What only a GPU shows: which kernels ran, and how much of the chip's bf16 peak a large model reaches."""
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import cases, measure
from romae_nb.encoder import ENCODER_SIZES

# dense bf16 with float32 accumulation, from the makers' data sheets, FLOP/s
PEAKS = {'H100': 989e12, 'H200': 989e12, 'A100': 312e12, 'L40S': 362e12, 'L4': 121e12}


def kernels(step, n=25) -> dict:
    "Names of the kernels that took longest in one step, with milliseconds."
    step()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as p:
        step(); torch.cuda.synchronize()
    times = sorted(p.key_averages(), key=lambda e: -e.self_device_time_total)
    return {e.key: e.self_device_time_total / 1e3 for e in times[:n] if e.self_device_time_total}


def step_flops(size, tokens, hidden, batch, decoder=dict(d_model=180, nhead=3, depth=2)) -> float:
    "Multiply-adds times two of the matrix products of a pre-training step; backward counts twice forward. Nothing recomputed is counted."
    def blocks(d, depth, n, asked):          # `asked`: tokens of the last block that need a query and an MLP
        full = 24 * d * d * n + 4 * d * n * n
        last = 4 * d * d * n + 20 * d * d * asked + 4 * d * n * asked
        return (depth - 1) * full + last
    visible = tokens - hidden + 1
    forward = blocks(size['d_model'], size['depth'], visible, visible) + blocks(decoder['d_model'], decoder['depth'], tokens + 1, hidden)
    return 3 * batch * (forward + 2 * visible * size['d_model'] * (768 + decoder['d_model']))


def share_of_peak(setting, batch=256, side=224, ratio=.75) -> dict:
    "romae_base, pre-training on images."
    size = ENCODER_SIZES['romae_base']
    big = cases.Setting(setting.device, setting.half, setting.compiled, size)
    step = cases.pretrain_images(None, big, n=batch, side=side, ratio=ratio)['ours']
    seconds = measure.summary(measure.in_turn(dict(ours=step), device='cuda'))['ours']['seconds']
    tokens = (side // 16)**2
    flops = step_flops(size, tokens, int(-(-ratio * tokens // 1)), batch) / seconds
    peak = next((v for k, v in PEAKS.items() if k in torch.cuda.get_device_name()), None)
    return dict(batch=batch, seconds=seconds, flops=flops, share=peak and flops / peak)


def widths(setting, repeats=7) -> dict:
    "Heads 60 wide against siblings 64 wide: seconds of a packed pre-training step."
    out = {}
    for name, size in dict(tiny_60=ENCODER_SIZES['romae_tiny'], tiny_64=dict(d_model=192, nhead=3, depth=12),
                           base_60=ENCODER_SIZES['romae_base'], base_64=dict(d_model=768, nhead=12, depth=12)).items():
        wide = cases.Setting(setting.device, setting.half, setting.compiled, size)
        step = cases.pretrain_series(None, wide, fill=.37)['ours']
        out[name] = measure.summary(measure.in_turn(dict(ours=step), repeats, 3, 'cuda'))['ours']['seconds']
    return out


def study(setting, quick=False) -> dict:
    "All of it, for a packed step of romae_tiny and an image step of romae_base."
    small = dict(rows=4, longest=32) if quick else {}
    packed = cases.pretrain_series(None, setting, fill=.37, **small)['ours']
    found = kernels(packed)
    return dict(kernels=found, varlen=[k for k in found if 'flash' in k.lower()],
                romae_base=share_of_peak(setting, batch=8 if quick else 256), widths=widths(setting, 1 if quick else 7))
