"""Clocks and gauges: steps timed in turn, peak memory in a process of its own, and on which machine."""
import json, os, platform, subprocess, sys, time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch

TOP = Path(__file__).resolve().parents[1]


@dataclass
class Clock:
    "Waits for a device, so that what is timed is done."
    device: str = 'cpu'

    def now(self):
        if self.device == 'cuda': torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def seconds(self, step):
        "Wall and processor seconds of one call."
        before = self.now()
        step()
        return [after - b for after, b in zip(self.now(), before)]


def in_turn(
    sides:dict,           # name -> a step, called without arguments
    repeats:int=7,        # timed rounds
    warmup:int=2,         # rounds before them
    device:str='cpu',     # what to wait for
) -> dict:                # name -> {'wall': seconds of each round, 'cpu': likewise}
    "Time steps A, B, C, A, B, C, ...: what else the machine does falls on all alike."
    clock, rounds = Clock(device), []
    for _ in range(warmup):
        for step in sides.values(): step()
    for _ in range(repeats): rounds.append({name: clock.seconds(step) for name, step in sides.items()})
    return {name: {kind: [r[name][i] for r in rounds] for i, kind in enumerate(('wall', 'cpu'))} for name in sides}


def summary(
    times:dict,  # from `in_turn`
) -> dict:       # name -> medians, and how many times as long as `ours` it took: the median, least and greatest of the rounds
    "Medians, and ratios round by round: a round's steps ran next to each other, so a busy spell does not tilt them."
    out = {}
    for name, t in times.items():
        ratios = sorted(a / b for a, b in zip(t['wall'], times['ours']['wall']))
        out[name] = dict(seconds=median(t['wall']), cpu_seconds=median(t['cpu']), rounds=len(ratios),
                         ratio=median(t['wall']) / median(times['ours']['wall']), ratio_least=ratios[0], ratio_most=ratios[-1],
                         cpu_ratio=median(t['cpu']) / max(median(times['ours']['cpu']), 1e-9))
    return out


def _vm(field):
    "A line of the kernel's account of this process, in bytes."
    line = next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(field))
    return int(line.split()[1]) * 1024


def peak_memory(
    step,              # one step
    device:str='cpu',  # where
) -> int:              # bytes above what was held before, at the worst moment
    "Peak memory of one step. On a CPU the kernel's high-water mark, set back before it; call it in a fresh process."
    if device == 'cuda':
        torch.cuda.synchronize(); torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    Path('/proc/self/clear_refs').write_text('5')       # the mark falls to what is held now
    before = _vm('VmRSS')
    step()
    return _vm('VmHWM') - before


def in_child(*args) -> dict|None:
    "What `python -m benchmarks` prints as JSON when it is run with `args`; None where it ran out of memory."
    run = subprocess.run([sys.executable, '-m', 'benchmarks', *map(str, args)], cwd=TOP, capture_output=True, text=True)
    if run.returncode in (-9, 137) or 'out of memory' in run.stderr or 'not enough memory' in run.stderr: return None
    if run.returncode: raise RuntimeError(f'benchmarks {args}: {run.stderr[-2000:]}')
    return json.loads(run.stdout.splitlines()[-1])


def free_memory() -> int:
    "Bytes that a process could take now."
    line = next(l for l in Path('/proc/meminfo').read_text().splitlines() if l.startswith('MemAvailable'))
    return int(line.split()[1]) * 1024


def _git(*args): return subprocess.run(['git', *args], cwd=TOP, capture_output=True, text=True).stdout.strip()


def _cpu():
    names = [l.split(':')[1].strip() for l in Path('/proc/cpuinfo').read_text().splitlines() if l.startswith('model name')]
    return names[0] if names else platform.processor()


def facts(device='cpu') -> dict:
    "Machine, versions and commit: what a number means nothing without."
    packages = {p: version(p) for p in ('torch', 'timm', 'numpy')}
    machine = dict(cpu=_cpu(), cores=os.cpu_count(), threads=torch.get_num_threads(), wait_policy=os.environ.get('OMP_WAIT_POLICY', 'default'),
                   load_before=os.getloadavg()[0], device=torch.cuda.get_device_name() if device == 'cuda' else 'cpu')
    return dict(machine=machine, versions=packages | dict(python=platform.python_version()), commit=_git('rev-parse', 'HEAD'),
                changed=bool(_git('status', '--porcelain', '--', 'romae_nb', 'benchmarks', ':!benchmarks/results')), date=time.strftime('%Y-%m-%dT%H:%M'))
