"""JapaneseVowels with a third of its steps gone: does pre-training help, and how does the reference implementation do on the same data?

    python recipes/japanese_vowels.py --seeds 0 1 2                                  # ours, and ours from scratch
    python recipes/japanese_vowels.py --seeds 0 1 2 --arms reference --reference DIR # DIR: a checkout of github.com/Chromeilion/RoMAE
    python recipes/japanese_vowels.py --seeds 0 1 2 --choose                         # other settings of ours, chosen on validation parts; then the best
    python recipes/japanese_vowels.py --table                                        # what is there so far, and results.json

`make study REFERENCE=DIR` does all of it, six seeds, and keeps the results where the documentation reads them.

Every run is one file, `OUT/<arm>-<seed>.json`; runs that are there are skipped, so a command that was stopped goes on where it was, and
two commands may share a folder if their seeds or arms differ (`--processes 2` does the same in one command). The test part is read once per
run, when training is over. Times are seconds of the processor, which other programs hardly lengthen. `--valid 0.2` takes part of the training
data away and reports on that, and the test part is not even loaded: for choices of one's own, which `--set lr=1e-3 pretrain_epochs=400` makes.

The data: 12 channels, 7 to 29 steps, 9 speakers, 270 training and 370 test series (shipped with aeon). Every series keeps 70% of its steps,
drawn by the run's seed; all arms of a seed see the same data in the same order with the same schedule, optimizer and clipping.
"""
import argparse
import json
import math
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha1
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from torch.nn import functional as F

ARMS = ('ours', 'scratch', 'reference', 'reference-carried')
CLASSES, CHANNELS = 9, 12


# Settings of ours to choose from. Their validation runs have seeds, and so lost steps, of their own.
OWN = dict(standardise=True, pool='avg')
CHOICES = {'as given': {}, 'standardised': dict(standardise=True), 'mean of tokens': OWN, 'stochastic depth': OWN | dict(drop_path=.1),
           'half hidden': OWN | dict(mask_ratio=.5), 'twice as long': OWN | dict(pretrain_epochs=400)}
CHOICE_SEEDS, CHOICE_VALID = (100, 101, 102), .3


@dataclass(frozen=True)
class Plan:
    "Settings of a run. All but `valid` and `standardise` are those of the study that is to be repeated."
    model: str = 'romae_tiny'
    drop: float = .3                # share of each series' steps that is lost
    standardise: bool = False       # subtract mean and divide by deviation of each channel, from the training part
    valid: float = 0.               # share of the training part to report on instead of the test part
    mask_ratio: float = .75
    pretrain_epochs: int = 200
    pretrain_batch: int = 64
    pretrain_lr: float = 3e-4       # AdamW
    beta1: float = .9
    beta2: float = .95
    weight_decay: float = .05
    epochs: int = 60
    batch: int = 16
    lr: float = 8e-3                # SGD
    momentum: float = .9
    smoothing: float = .1           # of labels, in fine-tuning
    warmup: float = .1              # share of the steps, in both
    clip: float = 1.                # norm of the gradient, in both
    pool: str = 'token'             # what ours reads: 'token' (CLS, as the reference) or 'avg'
    drop_path: float = 0.           # stochastic depth in fine-tuning, ours only


# ---- data -------------------------------------------------------------------------------------------------------------------------------

def series(split):
    "Values (n, 12) per series and labels from 0."
    from aeon.datasets import load_japanese_vowels
    x, y = load_japanese_vowels(split=split)
    return [torch.from_numpy(a.T.copy()).float() for a in x], [int(label) - 1 for label in y]


def thinned(xs, drop, seed, part):
    "Each series with some of its steps: values (m, 12), times (m, 1) in steps from 1."
    rng, out = np.random.default_rng([seed, part]), []
    for x in xs:
        keep = np.sort(rng.choice(len(x), max(2, round(len(x) * (1 - drop))), replace=False))
        out.append((x[keep], torch.from_numpy(keep).float().unsqueeze(1) + 1))
    return out


def load(plan, seed):
    "Training samples and those to report on, (values, times, label) each."
    xs, ys = series('train')
    train = [(*s, y) for s, y in zip(thinned(xs, plan.drop, seed, 0), ys)]
    if plan.valid:
        order = np.random.default_rng([seed, 2]).permutation(len(train))
        n = round(len(train) * plan.valid)
        train, last = [train[i] for i in order[n:]], [train[i] for i in order[:n]]
    else: last = None
    if plan.standardise:
        seen = torch.cat([v for v, *_ in train])
        return scaled(train, seen.mean(0), seen.std(0)), last and scaled(last, seen.mean(0), seen.std(0)), (seen.mean(0), seen.std(0))
    return train, last, (0., 1.)


def scaled(samples, center, scale): return [((v - center) / scale, t, y) for v, t, y in samples]


def test_samples(plan, seed, statistics):
    "The test part. Called once, at the end of a run."
    xs, ys = series('test')
    return scaled([(*s, y) for s, y in zip(thinned(xs, plan.drop, seed, 1), ys)], *statistics)


# ---- the two implementations ------------------------------------------------------------------------------------------------------------

class Ours:
    "romae_nb: ragged batches."
    def __init__(self, plan):
        import romae_nb  # noqa: F401  registers the models
        self.plan = plan
        self.kw = dict(tubelet_size=(1, 1, 1), in_chans=CHANNELS, n_pos_dims=1)

    def batch(self, samples):
        from romae_nb.tubelets import Ragged
        values, times, labels = zip(*samples)
        return Ragged.from_rows(list(values)), Ragged.from_rows(list(times)), torch.tensor(labels)

    def pretrainer(self):
        from romae_nb.mae import MaskedAutoencoder
        return MaskedAutoencoder(self.plan.model, self.kw, self.plan.mask_ratio, decoder_attention='all')    # as the reference

    def pretrain_loss(self, model, samples, generator):
        values, times, _ = self.batch(samples)
        mask = model.draw_mask(values, times, generator=generator)
        return model.loss(model(values, times, mask=mask), values, mask=mask)

    def classifier(self, pretrained=None):
        import timm
        model = timm.create_model(self.plan.model, num_classes=CLASSES, global_pool=self.plan.pool, drop_path_rate=self.plan.drop_path, **self.kw)
        if pretrained is None: return model
        missing, unknown = model.load_state_dict(pretrained.encoder.state_dict(), strict=False)
        if unknown or {k.split('.')[0] for k in missing} != {'fc_norm', 'head'}: raise RuntimeError(f'encoder does not fit: {missing}, {unknown}')
        return model

    def logits(self, model, samples):
        values, times, labels = self.batch(samples)
        return model(values, times), labels


class Reference:
    "The published implementation, as its own pages use it: padded batches, its own masks."
    def __init__(self, plan, folder, carried=False):
        self.plan, self.carried = plan, carried
        if not folder or not (Path(folder)/'romae'/'model.py').is_file():
            raise SystemExit(f'--reference: got {folder}; takes a checkout of github.com/Chromeilion/RoMAE')
        sys.path.insert(0, str(folder))
        from romae import model, utils
        self.m, self.utils = model, utils
        size = {'romae_tiny': 'RoMAE-tiny', 'romae_tiny_shallow': 'RoMAE-tiny-shallow', 'romae_small': 'RoMAE-small'}[plan.model]
        self.kw = dict(tubelet_size=(1, 1, 1), n_channels=CHANNELS, n_pos_dims=1, encoder_config=model.EncoderConfig(**utils.get_encoder_size(size)))

    def batch(self, samples):
        values, times, labels = zip(*samples)
        pad = lambda rows: torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        v, t = pad(values), pad(times)
        padding = torch.arange(v.shape[1]) >= torch.tensor([len(x) for x in values]).unsqueeze(1)
        return v[..., None, None], t.transpose(1, 2), padding, torch.tensor(labels)

    def pretrainer(self): return self.m.RoMAEForPreTraining(self.m.RoMAEForPreTrainingConfig(**self.kw))

    def pretrain_loss(self, model, samples, generator):
        values, times, padding, labels = self.batch(samples)
        return model(values=values, mask=self.utils.gen_mask(self.plan.mask_ratio, padding), positions=times, pad_mask=padding, label=labels)[1]

    def classifier(self, pretrained=None):
        model = self.m.RoMAEForClassification(self.m.RoMAEForClassificationConfig(dim_output=CLASSES, **self.kw))
        if pretrained is None: return model
        parts = ['encoder.', 'cls'] + ['projection.'] * self.carried       # what its `from_pretrained` takes along; the third it leaves behind
        kept = {k: v for k, v in pretrained.state_dict().items() if k.startswith(tuple(parts))}
        _, unknown = model.load_state_dict(kept, strict=False)
        if unknown: raise RuntimeError(f'encoder does not fit: {unknown}')
        return model

    def logits(self, model, samples):
        values, times, padding, labels = self.batch(samples)
        return model(values=values, positions=times, pad_mask=padding)[0], labels


def implementation(arm, plan, reference):
    return Reference(plan, reference, arm == 'reference-carried') if arm.startswith('reference') else Ours(plan)


def batched(items, n): return (items[i:i + n] for i in range(0, len(items), n))


# ---- training ---------------------------------------------------------------------------------------------------------------------------

def rate(step, steps, warmup):
    "Factor of the rate: a line up, then a cosine down to 0."
    up = max(1, round(steps * warmup))
    return (step + 1) / up if step < up else .5 * (1 + math.cos(math.pi * (step - up) / max(1, steps - up)))


def train(model, optimizer, loss_of, samples, epochs, batch, plan, seed):
    "Plain loop; returns the mean loss of the last epoch."
    order, step, steps = np.random.default_rng([seed, 3]), 0, epochs * math.ceil(len(samples) / batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: rate(s, steps, plan.warmup))
    model.train()
    for _ in range(epochs):
        losses = []
        for idx in batched(order.permutation(len(samples)), batch):
            loss = loss_of(model, [samples[i] for i in idx])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if not math.isfinite(losses[-1]): raise RuntimeError(f'the loss became {losses[-1]}')
    return mean(losses)


# what pre-training does not see of a plan
LATER = ('epochs', 'batch', 'lr', 'momentum', 'smoothing', 'pool', 'drop_path')


def pretrained(impl, name, train_samples, plan, seed, folder):
    "A pre-trained model and its last loss; the weights are kept: runs that were stopped, or that differ in fine-tuning only, need not train again."
    seen = {k: v for k, v in asdict(plan).items() if k not in LATER}
    file, model = folder/f'{name}-{seed}-{sha1(json.dumps(seen).encode()).hexdigest()[:8]}.pt', impl.pretrainer()
    if file.exists():
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved['model'])
        return model, saved['loss'], saved['seconds']
    generator, start = torch.Generator().manual_seed(seed), time.process_time()
    adam = torch.optim.AdamW(model.parameters(), plan.pretrain_lr, (plan.beta1, plan.beta2), weight_decay=plan.weight_decay)
    loss = train(model, adam, lambda m, s: impl.pretrain_loss(m, s, generator), train_samples, plan.pretrain_epochs, plan.pretrain_batch, plan, seed)
    seconds = time.process_time() - start
    whole(file, lambda f: torch.save(dict(model=model.state_dict(), loss=loss, seconds=seconds), f))
    return model, loss, seconds


def scores(impl, model, samples):
    "Accuracy, and cross-entropy without smoothing: where nearly all are right it still tells two models apart."
    model.eval()
    with torch.no_grad(): logits, labels = map(torch.cat, zip(*(impl.logits(model, s) for s in batched(samples, 128))))
    return dict(accuracy=(logits.argmax(1) == labels).double().mean().item(), cross_entropy=F.cross_entropy(logits, labels).item())


def run(arm, seed, plan, reference, out, weights):
    "One arm with one seed: pre-train, fine-tune, report."
    torch.set_num_threads(1)
    impl = implementation(arm, plan, reference)
    samples, valid, statistics = load(plan, seed)
    result = dict(arm=arm, seed=seed, plan=asdict(plan), torch=torch.__version__)
    torch.manual_seed(seed); random.seed(seed)                        # the reference draws its masks with `random`
    start = None
    if arm != 'scratch':
        start, result['pretrain_loss'], result['pretrain_seconds'] = pretrained(impl, arm.split('-')[0], samples, plan, seed, weights)
    torch.manual_seed(seed + 1000)                                    # the same whether weights were trained just now or read
    model, begin = impl.classifier(start), time.process_time()
    sgd = torch.optim.SGD(model.parameters(), plan.lr, plan.momentum)
    ce = lambda m, s: F.cross_entropy(*impl.logits(m, s), label_smoothing=plan.smoothing)
    result['train_loss'] = train(model, sgd, ce, samples, plan.epochs, plan.batch, plan, seed + 1000)
    result['finetune_seconds'] = time.process_time() - begin
    result['part'] = 'valid' if plan.valid else 'test'
    result |= scores(impl, model, valid if plan.valid else test_samples(plan, seed, statistics))
    whole(out/f'{arm}-{seed}.json', lambda f: f.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8'))
    return result


def whole(file, write):
    "Let `write` make a file beside `file`, then move it there: never half a file."
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f'.{file.name}.{os.getpid()}')
    write(part)
    os.replace(part, file)


# ---- the command ------------------------------------------------------------------------------------------------------------------------

def read(out, plan):
    "Results in a folder. Stops where one was made with another plan."
    results = [json.loads(f.read_text(encoding='utf-8')) for f in sorted(out.glob('*-*.json'))]
    for r in results:
        if r['plan'] != asdict(plan):
            changed = {k: v for k, v in r['plan'].items() if v != asdict(plan).get(k)}
            raise SystemExit(f'{out}: {r["arm"]}-{r["seed"]} was made with {changed}; give the same --set and --valid, or another --out')
    return results


def summary(results):
    "Mean, spread and number of runs per arm, and the difference to ours by seed."
    by = {a: {r['seed']: 100 * r['accuracy'] for r in results if r['arm'] == a} for a in ARMS}
    rows = []
    for arm, got in by.items():
        if not got: continue
        v, gaps = list(got.values()), [by['ours'][s] - x for s, x in got.items() if arm != 'ours' and s in by['ours']]
        rows.append(dict(arm=arm, runs=len(v), mean=mean(v), sd=stdev(v) if len(v) > 1 else None, low=min(v), high=max(v),
                         ours_minus=mean(gaps) if gaps else None, error=stdev(gaps) / len(gaps) ** .5 if len(gaps) > 1 else None, pairs=len(gaps)))
    return rows


def text(rows, part):
    number = lambda x, form='.2f': '' if x is None else format(x, form)
    out = [f'accuracy on the {part} part, %', f'{"":20}{"runs":>5}{"mean":>8}{"sd":>7}{"low":>8}{"high":>8}   ours minus this, same seeds']
    for r in rows:
        gap = '' if r['ours_minus'] is None else f'{r["ours_minus"]:+.2f} ± {number(r["error"]) or "?"} ({r["pairs"]} pairs)'
        out.append(f'{r["arm"]:20}{r["runs"]:5}{r["mean"]:8.2f}{number(r["sd"]):>7}{r["low"]:8.2f}{r["high"]:8.2f}   {gap}')
    return '\n'.join(out)


def settings(pairs, valid):
    "A Plan with changes, each of its field's own type."
    kinds, changes = {f.name: type(f.default) for f in fields(Plan)}, {}
    for pair in pairs:
        name, _, value = pair.partition('=')
        if name not in kinds: raise SystemExit(f'--set: got {name!r}; takes {", ".join(kinds)}')
        if kinds[name] is bool and value not in ('True', 'False'): raise SystemExit(f'--set {name}: got {value!r}; takes True or False')
        changes[name] = value == 'True' if kinds[name] is bool else kinds[name](value)
    return Plan(**dict(valid=valid) | changes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--arms', nargs='*', default=['ours', 'scratch'], choices=ARMS)
    parser.add_argument('--seeds', nargs='*', type=int, default=[0, 1, 2])
    parser.add_argument('--reference', type=Path, help='folder of the reference implementation; never part of this repository')
    parser.add_argument('--out', type=Path, default=Path('reports/japanese_vowels'))
    parser.add_argument('--valid', type=float, default=0., help='share of the training part to report on instead of the test part')
    parser.add_argument('--set', nargs='*', default=[], metavar='NAME=VALUE', help='other settings: ' + ', '.join(f.name for f in fields(Plan)))
    parser.add_argument('--processes', type=int, default=1, help='runs side by side, one thread each')
    parser.add_argument('--choose', action='store_true', help=f'try {len(CHOICES)} settings of ours on validation parts, and the best on the test part; with --reference the reference too, where they are about the data')
    parser.add_argument('--table', action='store_true', help='run nothing, show what is there')
    args = parser.parse_args()
    plan = settings(args.set, args.valid)
    if args.choose: choose(plan, args)
    else:
        if not args.table: run_arms(args.arms, args.seeds, plan, args.out, args)
        print(keep(args.out, plan))


def run_arms(arms, seeds, plan, out, args):
    "All runs that are not there yet. One process takes all arms of a seed: two of them share the pre-trained weights."
    read(out, plan)
    jobs = [[(a, s) for a in arms if not (out/f'{a}-{s}.json').exists()] for s in dict.fromkeys(seeds)]
    with ProcessPoolExecutor(args.processes, get_context('spawn')) as pool:
        for done in as_completed([pool.submit(run_all, js, plan, args.reference, out, args.out/'pretrained') for js in jobs if js]): done.result()


def run_all(jobs, plan, reference, out, weights):
    for arm, seed in jobs:
        r = run(arm, seed, plan, reference, out, weights)
        times = ', '.join(f'{k.split("_")[0]} {r[k]:.0f} s' for k in ('pretrain_seconds', 'finetune_seconds') if k in r)
        print(f'{out.name}: {arm} {seed}: {100 * r["accuracy"]:.2f}% of the {r["part"]} part ({times})', flush=True)


def keep(out, plan):
    "Write `results.json`; returns it as text."
    results = read(out, plan)
    if not results: raise SystemExit(f'{out}: no results yet')
    rows = summary(results)
    whole(out/'results.json', lambda f: f.write_text(json.dumps(dict(plan=asdict(plan), summary=rows, runs=results), indent=1) + '\n', encoding='utf-8'))
    return text(rows, results[0]['part'])


def choose(plan, args):
    "Every choice on validation parts; then the one with the best accuracy, or of equals the least cross-entropy, on the test part."
    found = []
    for name, changes in CHOICES.items():
        out, own = args.out/'choices'/name.replace(' ', '-'), replace(plan, valid=CHOICE_VALID, **changes)
        run_arms(['ours'], CHOICE_SEEDS, own, out, args)
        runs = read(out, own)
        found.append(dict(name=name, changes=changes, runs=len(runs), **{k: mean(r[k] for r in runs) for k in ('accuracy', 'cross_entropy')}))
    best = max(found, key=lambda c: (c['accuracy'], -c['cross_entropy']))
    said = dict(valid=CHOICE_VALID, seeds=CHOICE_SEEDS, choices=found, chosen=best['name'])
    whole(args.out/'choices.json', lambda f: f.write_text(json.dumps(said, indent=1) + '\n', encoding='utf-8'))
    for c in found: print(f'{c["name"]:20}{100 * c["accuracy"]:8.2f}%{c["cross_entropy"]:9.4f}{"  <- chosen" if c is best else ""}')
    own, fair = replace(plan, **best['changes']), args.reference and set(best['changes']) <= {'standardise'}     # the reference can take changes of the data too
    run_arms(['ours', 'reference-carried'] if fair else ['ours'], args.seeds, own, args.out/'chosen', args)
    print(keep(args.out/'chosen', own))


if __name__ == '__main__': main()
