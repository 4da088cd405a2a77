"""`python -m benchmarks`: ours beside the reference and timm's models, as JSON in benchmarks/results/.

    python -m benchmarks --reference ../romae            # all, on the CPU
    python -m benchmarks --quick                         # does it run? small sizes, one round
    python -m benchmarks --device cuda                   # bf16, compiled, with the kernels that ran
"""
import argparse, json, re, sys
from pathlib import Path

import torch

from benchmarks import cases, gpu, measure, reference

HERE = Path(__file__).resolve().parent
TOKENS, FILLS = (256, 512, 1024, 2048, 4096, 8192, 16384), (.1, .2, .37, .5, .75, 1.)
QUICK = dict(rows=4, longest=32)
CURVES = 'tokens', 'fill'
PATIENCE = 20      # seconds: what a step of the reference may take on the way along a curve


def arguments():
    p = argparse.ArgumentParser(prog='benchmarks', description=__doc__.splitlines()[0])
    p.add_argument('--reference', default='', help='a checkout of the reference implementation; without one only ours and timm are measured')
    p.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    p.add_argument('--threads', type=int, default=2, help='of torch, for all sides')
    p.add_argument('--repeats', type=int, default=7, help='timed rounds of the table')
    p.add_argument('--only', nargs='*', help=f'cases: {", ".join(cases.CASES)}; curves: {", ".join(CURVES)}, or curves for both')
    p.add_argument('--tokens', nargs='*', type=int, help=f'points of the curve of that name; by default {", ".join(map(str, TOKENS))}')
    p.add_argument('--quick', action='store_true', help='small sizes, one round: whether it runs')
    p.add_argument('--out', default='', help='the JSON; by default results/MACHINE-DATE-COMMIT.json. Parts measured one by one (--only) join in it')
    p.add_argument('--memory', nargs=2, metavar=('SIDE', 'TOKENS'), help='print the peak memory of one step in this process; what the curves call')
    p.add_argument('--fill', type=float, help='with --memory: 32 rows of up to 256 tokens, this share of them real')
    a = p.parse_args()
    if a.device == 'cuda' and not torch.cuda.is_available(): p.error('--device: got cuda; takes cpu here, there is no GPU')
    if 'curves' in (a.only or ()): a.only = [*a.only, *CURVES]
    unknown = set(a.only or ()) - {*cases.CASES, *CURVES, 'curves'}
    if unknown: p.error(f'--only: got {sorted(unknown)}; takes {", ".join((*cases.CASES, *CURVES))}, curves')
    return a


def one_row(tokens): return dict(rows=1, longest=tokens, fill=1.)


def curve_sides(ref, setting, shape, only=None):
    "A pre-training step a side; `only` one of them, to weigh it alone."
    sides = cases.pretrain_series(ref if only != 'ours' else None, setting, check=False, **shape)
    return sides if only is None else {only: sides[only]}


def table(args, ref, setting):
    "Every case."
    out = {}
    for name, case in cases.CASES.items():
        if args.only and name not in args.only: continue
        torch.manual_seed(0)
        small = QUICK if args.quick and name not in ('images', 'timm') else dict(n=2, side=32) if args.quick else {}
        sides = case.make(ref, setting, **small)
        rounds = (1, 1) if args.quick else (args.repeats, 2) if case.at_least else (3, 1)       # fewer where nothing is asked
        got = measure.summary(measure.in_turn(sides, *rounds, setting.device))
        out[name] = dict(title=case.title, against=case.against, at_least=case.at_least, aim=case.aim, sides=got)
        report(name, out[name])
    return out


def report(name, row):
    ratios = ', '.join(f'{k} {s["seconds"] * 1e3:.1f} ms (x{s["ratio"]:.2f})' for k, s in row['sides'].items())
    asked = f'; wanted x{row["at_least"]:.2f}, hoped for x{row["aim"]:.2f}' if row['at_least'] else ''
    print(f'{name}: {ratios}{asked}', file=sys.stderr, flush=True)


def fits(ref, tokens, last):
    "Whether to measure the reference. It keeps several N x N matrices a head, which must fit, and its next step of twice the tokens takes four times as long."
    return ref is not None and 16 * 3 * 4 * tokens**2 < measure.free_memory() and 4 * last < PATIENCE


def curve(args, ref, setting, name, shapes, x):
    "Time in turn, and peak memory in a process each, at every point. Long steps are measured once: what a first call costs is little beside them."
    points, last = [], {}
    for value, shape, flags in zip(x, shapes, ([None, v] if name == 'tokens' else [v, 256] for v in x)):
        grows = last if name == 'tokens' else {}
        sides = curve_sides(ref if fits(ref, shape['longest'], grows.get('reference', 0)) else None, setting, shape)
        if 'reference' not in sides: grows['reference'] = PATIENCE
        rounds = (1, 1) if args.quick else (1, 0) if max(grows.get(s, 0) for s in sides) > 1 or shape['longest'] > 2048 else (3, 1)
        got = measure.summary(measure.in_turn(sides, *rounds, setting.device))
        for side in got: got[side]['peak'] = memory(args, side, shape, flags)
        last = {**grows, **{side: s['seconds'] for side, s in got.items()}}
        points.append({name: value, 'sides': got})
        print(f'{name} {value}:', {k: f'{s["seconds"] * 1e3:.0f} ms, {megabytes(s["peak"])}' for k, s in got.items()}, file=sys.stderr, flush=True)
        del sides
    return points


def megabytes(peak): return 'out of memory' if peak is None else f'{peak / 2**20:.0f} MiB'


def memory(args, side, shape, flags):
    fill, tokens = flags
    extra = ['--fill', fill] if fill is not None else []
    got = measure.in_child('--memory', side, tokens, *extra, '--device', args.device, '--threads', args.threads, '--reference', args.reference)
    return got and got['peak']


def weigh(args, ref, setting):
    "What `--memory` prints."
    side, tokens = args.memory[0], int(args.memory[1])
    shape = one_row(tokens) if args.fill is None else dict(rows=32, longest=tokens, fill=args.fill)
    step = curve_sides(ref, setting, shape, side)[side]
    print(json.dumps(dict(peak=measure.peak_memory(step, args.device))))


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    setting = cases.Setting(args.device, half=args.device == 'cuda', compiled=args.device == 'cuda')
    ref = reference.load(args.reference) if args.reference else None
    if args.memory: return weigh(args, ref, setting)
    facts = measure.facts(args.device) | dict(reference=ref and ref.commit, quick=args.quick, repeats=1 if args.quick else args.repeats)
    result = facts | dict(table=table(args, ref, setting))
    tokens, fills = ((256, 512), (.5, 1.)) if args.quick else (args.tokens or TOKENS, FILLS)
    shapes = dict(tokens=[one_row(n) for n in tokens], fill=[dict(rows=32, longest=256, fill=f) for f in fills])
    for name, at in zip(CURVES, (tokens, fills)):
        if not args.only or name in args.only: result[name] = curve(args, ref, setting, name, shapes[name], at)
    if args.device == 'cuda': result['gpu'] = gpu.study(setting, args.quick)
    write(args, result)


def write(args, result):
    name = re.sub(r'[^\w.]+', '_', result['machine']['device'] if args.device == 'cuda' else result['machine']['cpu']).strip('_').lower()
    path = Path(args.out) if args.out else HERE/'results'/f'{name}-{result["date"][:10]}-{result["commit"][:7]}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(joined(path, result), indent=1) + '\n', encoding='utf-8')
    print(path)


def joined(path, result):
    "With what the file holds already, if that was measured under the same conditions."
    if not path.is_file(): return result
    old = json.loads(path.read_text(encoding='utf-8'))
    conditions = lambda r: [r[k] for k in ('commit', 'changed', 'versions', 'reference', 'quick')] + [{k: v for k, v in r['machine'].items() if k != 'load_before'}]
    if conditions(old) != conditions(result): return result
    points = {p['tokens']: p for r in (old, result) for p in r.get('tokens', [])}
    tokens = dict(tokens=[points[n] for n in sorted(points)]) if points else {}
    return old | result | tokens | dict(table=old['table'] | result['table'])


if __name__ == '__main__': main()
